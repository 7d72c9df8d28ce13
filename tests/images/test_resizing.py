"""Resizing, against Pillow and against sums done by hand."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers.slow import mark_slow
from PIL import Image, ImageOps
from skimage import data

from keras_cnn import Preprocessing, images

BILINEAR = Image.Resampling.BILINEAR
PHOTOS = ("astronaut", "cat", "coffee", "hubble_deep_field", "immunohistochemistry", "retina", "rocket")


def jpeg(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


def by_pillow(image, rule, size):
    if rule == "squash":
        return image.resize((size, size), BILINEAR)
    if rule == "cover":
        return ImageOps.fit(image, (size, size), BILINEAR)
    whole, result = ImageOps.contain(image, (size, size), BILINEAR), Image.new("RGB", (size, size), "white")
    result.paste(whole, ((size - whole.width) // 2, (size - whole.height) // 2))
    return result


def difference(content, rule, size):
    """Mean absolute difference to full decoding, turning and Pillow's own anti-aliased resizing, in levels of 255."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    ours = images.prepare(content, Preprocessing(size, rule))
    return np.abs(ours - np.asarray(by_pillow(image, rule, size), "float32")).mean()


@pytest.mark.parametrize("rule", mark_slow(["squash", "fit", "cover"], except_for=["fit"]))
def test_photos_are_close_to_pillow(rule):
    differences = {name: difference(jpeg(Image.fromarray(getattr(data, name)())), rule, 224) for name in PHOTOS}
    assert max(differences.values()) < 2, differences
    assert np.mean([*differences.values()]) < 1.3


@pytest.mark.parametrize("rule", ["squash", "fit", "cover"])
def test_the_centre_of_an_image(rule):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 80, 3), "uint8")
    centre = pixels[5:35, 10:70]  # three quarters
    found = [
        images.resize(tf.constant(image), Preprocessing(16, rule, crop_fraction=crop))
        for image, crop in ((pixels, 0.75), (centre, 1.0))
    ]
    np.testing.assert_array_equal(*found)


def test_a_set_of_phone_photos_is_close_to_pillow():
    folder = os.environ.get("KERAS_CNN_GROCERY", "")
    paths = sorted(Path(folder).rglob("*.jpg")) if folder else []
    if not paths:
        pytest.skip("needs KERAS_CNN_GROCERY, a folder with photos such as those of the Grocery Store Dataset")
    differences = [difference(path.read_bytes(), "squash", 224) for path in paths[:: max(1, len(paths) // 50)]]
    assert np.mean(differences) < 1.3
    assert max(differences) < 2


def test_a_much_larger_jpeg_is_decoded_at_a_fraction_of_its_size():
    # Pillow's `draft` asks libjpeg for the same fraction, which is of the wanted size already. The file lies on its side.
    exif = Image.Exif()
    exif[0x0112] = 6
    content = jpeg(Image.fromarray(data.coffee()).resize((320, 192)), exif=exif)
    quarter = Image.open(io.BytesIO(content))
    quarter.draft("RGB", (80, 48))
    expected = np.asarray(ImageOps.exif_transpose(quarter))
    assert expected.shape == (80, 48, 3)
    np.testing.assert_array_equal(images.prepare(content, Preprocessing((80, 48))), expected)


@pytest.mark.parametrize(("rule", "fraction"), [("squash", 4), ("fit", 8)])
def test_no_fraction_is_too_small(rule, fraction):
    # 160 pixels become 40 along one axis and 20 along the other, or 20 along both.
    content = jpeg(Image.fromarray(data.coffee()).resize((160, 160)))
    part = tf.io.decode_jpeg(content, ratio=fraction, dct_method="INTEGER_ACCURATE")
    record = Preprocessing((40, 20), rule)
    np.testing.assert_array_equal(images.prepare(content, record), images.resize(part, record))


def test_between_once_and_twice_the_size_a_pixel_is_the_mean_of_its_area():
    # From 3 to 2: a pixel and half of the next one, [a + b / 2, b / 2 + c] / 1.5.
    row = np.array([[[30], [60], [90]]] * 3, "float32").repeat(3, -1)
    small = images.resize(row, Preprocessing((3, 2)))
    np.testing.assert_allclose(small, np.array([[[40], [80]]] * 3, "float32").repeat(3, -1), rtol=1e-6)


@pytest.mark.parametrize("size", [8, 40, 60])
@pytest.mark.parametrize("rule", ["squash", "fit", "cover"])
def test_resizing_has_antialiasing(rule, size):
    # A checkerboard of single pixels is gray from afar; without anti-aliasing it would stay black and white.
    board = np.indices((64, 64)).sum(0) % 2 * 255.0
    small = images.resize(tf.constant(np.repeat(board[..., None], 3, 2), tf.float32), Preprocessing(size, rule)).numpy()
    assert abs(small.mean() - 127.5) < 0.5
    assert small.std() < {8: 2, 40: 45, 60: 90}[size]  # 127.5 before


def test_fit_keeps_everything_and_cover_fills():
    # 20 high, 40 wide, red left half, blue right half.
    wide = np.zeros((20, 40, 3), "float32")
    wide[:, :20, 0] = wide[:, 20:, 2] = 200
    fitted = images.resize(wide, Preprocessing(20, "fit", background=7)).numpy()
    assert (fitted[:5] == 7).all() and (fitted[15:] == 7).all() and (fitted[5:15] != 7).all()
    covered = images.resize(wide, Preprocessing(20, "cover")).numpy()
    np.testing.assert_allclose(covered, wide[:, 10:30])


@pytest.mark.parametrize("columns", [40, 41, 42, 43])
def test_cover_cuts_off_as_much_on_both_sides(columns):
    image = np.arange(columns, dtype="float32")[None, :, None].repeat(20, 0).repeat(3, 2)
    covered = images.resize(image, Preprocessing(10, "cover")).numpy()
    assert abs(covered.mean() - (columns - 1) / 2) < 1e-3


@pytest.mark.parametrize("rule", ["squash", "fit", "cover"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1)])
def test_extreme_shapes(rule, shape):
    result = images.resize(np.full((*shape, 3), 9.0, "float32"), Preprocessing((16, 24), rule, background=9))
    np.testing.assert_allclose(result, np.full((16, 24, 3), 9.0), atol=1e-3)


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
