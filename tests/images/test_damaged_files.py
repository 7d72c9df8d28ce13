"""Damaged files of every kind: each gives an image or a reason, the same alone and in a pipeline, and nothing crashes.

All run in the process of the tests, so that a crash of a decoder is seen.
"""

import random
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_cnn import Preprocessing, images

COUNT = 2_000
FILES = Path(__file__).parent.parent / "data" / "images"


def damaged(chance, whole):
    """A file out of `whole` with one or two changes: bits, bytes, numbers, cuts, and pieces of other files."""
    content = bytearray(chance.choice(whole))
    for _ in range(chance.randint(1, 2)):
        place = chance.randrange(chance.choice((40, len(content), len(content))))
        length = chance.randint(1, 8)
        kind = chance.randrange(6)
        if kind == 0:
            content[place : place + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            number = chance.choice((0, 1, 255, 256, 65_535, 2**31 - 1, 2**32 - 1))
            content[place : place + 4] = number.to_bytes(4, chance.choice(("big", "little")))
        elif kind == 2:
            del content[place : place + length]
        elif kind == 3:
            content[place:place] = chance.randbytes(length)
        elif kind == 4:
            other = chance.choice(whole)
            start = chance.randrange(len(other))
            content[place:place] = other[start : start + 100]
        elif len(content) > 80:
            del content[chance.randrange(40, len(content)) :]
    return with_checksums(bytes(content)) if chance.random() < 0.8 else bytes(content)


def with_checksums(content):
    """A PNG file with the checksums that its chunks should have: otherwise nothing after them would be tried."""
    result, place = content[:8], 8
    if not content.startswith(b"\x89PNG"):
        return content
    while place + 12 <= len(content):
        end = place + 8 + int.from_bytes(content[place : place + 4])
        result += content[place:end] + zlib.crc32(content[place + 4 : end]).to_bytes(4)
        place = end + 4
    return result


@pytest.mark.slow
def test_damaged_files_give_an_image_or_a_reason():
    whole = [path.read_bytes() for path in sorted(FILES.iterdir()) if path.is_file()]
    chance = random.Random(0)
    contents = [damaged(chance, whole) for _ in range(COUNT)]
    record = Preprocessing((12, 20), "cover")

    alone = []
    for content in contents:
        try:
            alone.append(images.prepare(content, record).numpy())
        except tf.errors.InvalidArgumentError as error:
            assert error.message and len(error.message) < 200, error.message
    assert COUNT / 5 < len(alone) < COUNT * 4 / 5
    assert all(image.min() > -1e-3 and image.max() < 255 + 1e-3 for image in alone)

    dataset = tf.data.Dataset.from_tensor_slices(contents)
    dataset = dataset.map(lambda content: images.prepare(content, record), num_parallel_calls=2).ignore_errors()
    np.testing.assert_array_equal(alone, list(dataset))
