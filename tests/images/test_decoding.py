"""Decoding every kind of file, against Pillow; what is refused; the same everywhere."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from keras_cnn import Preprocessing, images

FILES = Path(__file__).parent.parent / "data" / "images"
WHOLE = sorted(path for path in FILES.iterdir() if path.is_file())
REFUSED = sorted((FILES / "refused").iterdir())
# Pillow shows another colour than the background where a frame leaves its canvas empty.
ON_CANVAS = [path for path in WHOLE if "on_larger_canvas" in path.name]

RECORD = Preprocessing((11, 17), "fit", 40)


def by_pillow(path, background):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(path.read_bytes())))
    if image.mode == "I;16":  # which Pillow's `convert` clips at 255
        return np.repeat(np.asarray(image)[..., None] >> 8, 3, -1)
    ground = Image.new("RGBA", image.size, (background, background, background, 255))
    ground.alpha_composite(image.convert("RGBA"))
    return np.asarray(ground.convert("RGB"))


@pytest.mark.parametrize("path", sorted({*WHOLE} - {*ON_CANVAS}), ids=lambda path: path.name)
def test_decodes_what_pillow_decodes(path):
    np.testing.assert_array_equal(images.decode(path.read_bytes(), 40), by_pillow(path, 40))


@pytest.mark.parametrize(
    ("name", "frame", "top", "left"),
    [
        ("on_larger_canvas.gif", "plain.gif", 2, 5),
        ("animated_on_larger_canvas.webp", "animated.webp", 2, 4),
    ],
)
def test_a_frame_on_a_larger_canvas_shows_the_background_around_it(name, frame, top, left):
    expected = np.full((20, 30, 3), 40, "uint8")
    expected[top : top + 16, left : left + 24] = by_pillow(FILES / frame, 40)
    np.testing.assert_array_equal(images.decode((FILES / name).read_bytes(), 40), expected)


def test_half_transparent_by_hand():
    # 128 of 255 opaque: 55 * 128 / 255 + 40 * 127 / 255 = 47.53; one_colour.png would be 55 without its alpha channel.
    pixels = tf.constant([[[55, 55, 55, 128]]], tf.uint8)
    np.testing.assert_array_equal(images.decode(tf.io.encode_png(pixels), 40), [[[48, 48, 48]]])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("text.jpg", "A file must begin as a JPEG, PNG, GIF, BMP or WebP file does."),
        ("bomb.png", "An image must have at most 89478485 pixels. Received height and width: [12000 12000]"),
        (
            "bomb_progressive.jpg",
            "A JPEG image must have at most 89478485 pixels, and no more than 16 scans of so many. "
            "Received height and width: [12000 12000]",
        ),
        ("truncated.gif", "A GIF file must hold a complete image and its colours."),
        (
            "run_length.bmp",
            "A BMP file must be uncompressed, with 8, 24 or 32 bits per pixel in the usual order, of Windows 3 or later.",
        ),
    ],
)
def test_what_is_refused_says_why(name, sentence):
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        images.decode((FILES / "refused" / name).read_bytes(), 40)
    assert error.value.message == sentence


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.name)
def test_files_that_are_no_images_are_refused(path):
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        images.decode(path.read_bytes(), 40)
    # Bombs before they are decoded: one of them would take 12 GB.
    assert ("at most 89478485 pixels" in error.value.message) == path.name.startswith("bomb")


def test_a_large_jpeg_in_one_scan_counts_as_it_is_decoded():
    # 20,000 x 20,000 pixels, 400 million, announced by a small file: at 1/8 they are 6.25 million.
    content = (FILES / "rgb.jpg").read_bytes()
    place = content.index(b"\xff\xc0") + 5
    large = content[:place] + 2 * (20_000).to_bytes(2) + content[place + 4 :]
    assert images.prepare(large, RECORD).shape == (11, 17, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 89478485 pixels"):
        images.decode(large, 40)


@pytest.mark.slow
def test_the_same_alone_in_tf_data_and_in_a_saved_model(tmp_path):
    contents = [path.read_bytes() for path in WHOLE + REFUSED]

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def serve(content):
        return images.prepare(content, RECORD)

    module = tf.Module()
    module.serve = serve
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))

    def results(function):
        for content in contents:
            try:
                yield function(tf.constant(content)).numpy()
            except tf.errors.InvalidArgumentError:
                yield None

    alone, served = (list(results(f)) for f in (lambda content: images.prepare(content, RECORD), loaded.serve))
    assert [image is not None for image in alone] == [True] * len(WHOLE) + [False] * len(REFUSED)
    dataset = tf.data.Dataset.from_tensor_slices(contents).map(serve, num_parallel_calls=2).ignore_errors()
    np.testing.assert_array_equal(np.stack(alone[: len(WHOLE)]), list(dataset))
    np.testing.assert_array_equal(np.stack(alone[: len(WHOLE)]), np.stack(served[: len(WHOLE)]))
    assert all(image is None for image in served[len(WHOLE) :])
    assert dataset.element_spec.shape == (11, 17, 3)


@pytest.mark.slow
def test_next_to_another_device():
    """As on a machine with a GPU, here with a second logical CPU as the device of choice: broken files are named as such."""
    program = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])
from keras_cnn import Preprocessing, images
for content in (b"GIF89a", b"\\xff\\xd8\\xff", b"\\x89PNG\\r\\n\\x1a\\n", b"BM", b"RIFF....WEBP", b"text", b""):
    try:
        with tf.device("CPU:1"):
            images.prepare(content, Preprocessing((32, 32)))
    except tf.errors.InvalidArgumentError:
        continue
    raise SystemExit(f"decoded: {content}")
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
