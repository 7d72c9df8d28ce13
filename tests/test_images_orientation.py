"""The orientation in Exif data, as the standard draws it and where it is malformed."""

import random
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_cnn import images
from keras_cnn.images import orientation

FILES = Path(__file__).parent / "data" / "images"

# Exif 2.32, tag 0x0112: where the first row and the first column of the file are seen.
UPRIGHT = {
    1: lambda image: image,  # top, left
    2: lambda image: image[:, ::-1],  # top, right
    3: lambda image: image[::-1, ::-1],  # bottom, right
    4: lambda image: image[::-1],  # bottom, left
    5: lambda image: image.transpose(1, 0, 2),  # left, top
    6: lambda image: image.transpose(1, 0, 2)[:, ::-1],  # right, top
    7: lambda image: image.transpose(1, 0, 2)[::-1, ::-1],  # right, bottom
    8: lambda image: image.transpose(1, 0, 2)[::-1],  # left, bottom
}


@pytest.mark.parametrize("value", UPRIGHT)
def test_each_orientation(value):
    as_stored = images.decode((FILES / "orientation_1.jpg").read_bytes()).numpy()
    turned = images.decode((FILES / f"orientation_{value}.jpg").read_bytes())
    np.testing.assert_array_equal(turned, UPRIGHT[value](as_stored))


def exif():
    """The Exif data of a file with orientation 6, from their TIFF header on, and what stands around them."""
    content = (FILES / "orientation_6.jpg").read_bytes()
    start = content.index(b"Exif\0\0") + 6
    length = int.from_bytes(content[start - 8 : start - 6]) - 8
    return content[:start], content[start : start + length], content[start + length :]


@pytest.mark.parametrize(
    ("malformed", "change"),
    [
        ("nothing", lambda tiff: b""),
        ("no byte order", lambda tiff: b"XX" + tiff[2:]),
        ("other magic number", lambda tiff: tiff[:2] + b"\x2b" + tiff[3:]),
        ("directory at itself", lambda tiff: tiff[:4] + bytes(4) + tiff[8:]),
        ("directory beyond the end", lambda tiff: tiff[:4] + b"\xff\xff\xff\x7f" + tiff[8:]),
        ("directory before the beginning", lambda tiff: tiff[:4] + b"\xff\xff\xff\xff" + tiff[8:]),
        ("truncated directory", lambda tiff: tiff[:25]),
        ("no entries", lambda tiff: tiff[:8] + b"\0\0" + tiff[10:]),
        ("orientation 0", lambda tiff: tiff.replace(b"\6\0\0\0", b"\0\0\0\0")),
        ("orientation 9", lambda tiff: tiff.replace(b"\6\0\0\0", b"\x09\0\0\0")),
        ("orientation as text", lambda tiff: tiff.replace(b"\x12\x01\3\0", b"\x12\x01\2\0")),
    ],
)
def test_malformed_exif_data_leave_the_image_as_it_is(malformed, change):
    _, tiff, _ = exif()
    assert orientation.read(tf.constant(tiff)) == 6
    assert orientation.read(tf.constant(change(tiff))) == 1


def test_more_entries_announced_than_there_are_does_no_harm():
    _, tiff, _ = exif()
    assert orientation.read(tf.constant(tiff[:8] + b"\xff\xff" + tiff[10:])) == 6


def test_exif_data_never_make_an_image_unreadable():
    before, tiff, after = exif()
    chance = random.Random(0)
    sizes = set()
    for _ in range(200):
        changed = bytearray(tiff)
        for _ in range(chance.randint(1, 6)):
            changed[chance.randrange(len(changed))] = chance.choice((0, 1, 6, 127, 255))
        sizes.add(tuple(images.decode(before + bytes(changed) + after).shape))
    assert sizes == {(16, 24, 3), (24, 16, 3)}
