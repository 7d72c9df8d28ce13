"""Decoding and resizing, against Pillow and against sums done by hand."""

import io
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from skimage import data

from keras_cnn import Preprocessing, images


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(data.cat()).resize((61, 40))


@pytest.mark.parametrize(
    ("kind", "mode", "options", "tolerance"),
    [
        ("PNG", "RGB", {}, 0),
        ("PNG", "L", {}, 0),
        ("PNG", "P", {}, 0),
        ("GIF", "P", {}, 0),
        ("BMP", "RGB", {}, 0),
        ("BMP", "L", {}, 0),
        ("WEBP", "RGB", {"lossless": True}, 0),
        ("JPEG", "RGB", {"quality": 95, "subsampling": 0}, 2),  # TensorFlow's default cosine transform is the fast one
        ("JPEG", "L", {}, 1),
    ],
)
def test_decodes_what_pillow_decodes(photo, kind, mode, options, tolerance):
    content = encoded(photo.convert(mode), kind, **options)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), "float32")
    assert np.abs(images.decode(content).numpy() - expected).mean() <= tolerance


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True})])
@pytest.mark.parametrize(("background", "expected"), [(255, 155.0), (0, 27.45)])
def test_transparency_shows_the_background(kind, options, background, expected):
    # 128 of 255 opaque, colour 54.69: 54.69 * 128 / 255 + 255 * 127 / 255 by hand, with whole numbers: 55 -> 27.6 + 127.
    image = Image.new("RGBA", (3, 2), (55, 55, 55, 128))
    by_hand = 55 * 128 / 255 + background * 127 / 255
    decoded = images.decode(encoded(image, kind, **options), background).numpy()
    assert decoded.shape == (2, 3, 3)
    np.testing.assert_allclose(decoded, by_hand, atol=0.5)
    assert abs(by_hand - expected) < 0.5


def test_gray_with_alpha():
    content = encoded(Image.new("LA", (2, 2), (100, 0)), "PNG")
    np.testing.assert_array_equal(images.decode(content).numpy(), np.full((2, 2, 3), 255.0))


def test_first_frame_of_an_animation():
    frames = [Image.new("P", (4, 4), colour) for colour in (0, 1)]
    frames[0].putpalette([10, 20, 30, 200, 210, 220])
    frames[1].putpalette([10, 20, 30, 200, 210, 220])
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(images.decode(content).numpy()[0, 0], [10, 20, 30])


ANIMATIONS = """
import io
from PIL import Image
from keras_cnn import images

for side in (8, 40, 200):
    for mode, alpha in (("RGB", ()), ("RGBA", (255,))):
        for lossless in (True, False):
            frames = [Image.new(mode, (side, side - 3), (*colour, *alpha)) for colour in ((250, 0, 0), (0, 250, 0))]
            buffer = io.BytesIO()
            frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], lossless=lossless)
            for _ in range(20):
                image = images.decode(buffer.getvalue()).numpy()
            assert image.shape == (side - 3, side, 3), image.shape
            assert abs(image.astype(int) - [250, 0, 0]).max() <= 6, image[0, 0]
"""


def test_animated_webp_gives_its_first_frame():
    # In a process of its own: TensorFlow's decoder corrupts the memory of the process on such files.
    run = subprocess.run([sys.executable, "-c", ANIMATIONS], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-500:]


@pytest.mark.parametrize("rule", ["squash", "fit", "cover"])
def test_resizing_has_antialiasing(rule):
    # A checkerboard of single pixels is gray from afar; without anti-aliasing it would stay black and white.
    board = np.indices((64, 64)).sum(0) % 2 * 255.0
    small = images.resize(tf.constant(np.repeat(board[..., None], 3, 2), tf.float32), Preprocessing(8, rule)).numpy()
    np.testing.assert_allclose(small, 127.5, atol=3)


def test_squash_is_close_to_pillow(photo):
    ours = images.prepare(encoded(photo, "PNG"), Preprocessing((20, 30))).numpy()
    theirs = np.asarray(photo.resize((30, 20), Image.Resampling.BILINEAR), "float32")
    assert np.abs(ours - theirs).mean() < 1


def test_fit_keeps_everything_and_cover_fills():
    # 20 high, 40 wide, red left half, blue right half.
    wide = np.zeros((20, 40, 3), "float32")
    wide[:, :20, 0] = wide[:, 20:, 2] = 200
    fitted = images.resize(wide, Preprocessing(20, "fit", background=7)).numpy()
    assert (fitted[:5] == 7).all() and (fitted[15:] == 7).all() and (fitted[5:15] != 7).all()
    covered = images.resize(wide, Preprocessing(20, "cover")).numpy()
    np.testing.assert_allclose(covered, wide[:, 10:30])


@pytest.mark.parametrize("rule", ["squash", "fit", "cover"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1)])
def test_extreme_shapes(rule, shape):
    result = images.resize(np.full((*shape, 3), 9.0, "float32"), Preprocessing((16, 24), rule, background=9))
    np.testing.assert_allclose(result, np.full((16, 24, 3), 9.0), atol=1e-3)


def test_the_same_inside_tf_data(photo):
    content, record = encoded(photo, "JPEG"), Preprocessing(32, "fit")
    dataset = tf.data.Dataset.from_tensors(content).map(lambda c: images.prepare(c, record))
    np.testing.assert_array_equal(next(iter(dataset)), images.prepare(content, record))
    assert dataset.element_spec.shape == (32, 32, 3)


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0 no JPEG"])
def test_what_is_no_image_raises(content):
    with pytest.raises(tf.errors.InvalidArgumentError):
        images.prepare(content, Preprocessing(8))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 0}, "`size` must be an integer of at least 1, or 2 of them. Received: size=0."),
        ({"size": 8, "resize": "crop"}, "`resize` must be one of 'squash', 'fit', 'cover'. Received: resize='crop'."),
        ({"size": 8, "background": 256}, "`background` must be at most 255. Received: background=256."),
    ],
)
def test_preprocessing_refuses(options, sentence):
    with pytest.raises(ValueError) as error:
        Preprocessing(**options)
    assert str(error.value) == "Preprocessing: " + sentence


def test_preprocessing_survives_json():
    record = Preprocessing((3, 4), "fit", 0)
    assert Preprocessing(**record.to_dict()) == record
