"""The table of formats, against Pillow and against what the decoder makes of the same bytes."""

import random
from pathlib import Path

import pytest
import tensorflow as tf
from PIL import Image

from keras_cnn.images import decoding, formats

FILES = Path(__file__).parent.parent / "data" / "images"
WHOLE = sorted(path for path in FILES.iterdir() if path.is_file())
# Their names say something else than their content.
MISNAMED = {"really_a_png.jpg"}


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.name)
def test_each_file_has_the_format_that_pillow_sees(path):
    found = formats.find_format(path.read_bytes())
    with Image.open(path) as image:
        assert image.format in found.pillow_names
        assert image.get_format_mimetype() == f"image/{found.name.lower()}"
    assert (path.suffix in found.suffixes) == (path.name not in MISNAMED)


def test_pillow_knows_each_suffix_by_the_same_format():
    known = Image.registered_extensions()
    for each in formats.FORMATS:
        assert {known[suffix] for suffix in each.suffixes if suffix in known} <= {*each.pillow_names, "DIB"}


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.name)
def test_only_a_file_without_its_end_is_truncated(path):
    content = path.read_bytes()
    found = formats.find_format(content)
    assert not found.is_truncated(content) and found.is_truncated(content[:-1])


def test_the_decoder_and_the_table_agree_on_any_first_bytes():
    chance = random.Random(0)
    heads = [b"", b"B", b"BM", b"GIF8", b"GIF7", b"RIFF....WEBP", b"RIFF....WAVE", b"\xff\xd8\xff", b"\xff\xd8"]
    for path in WHOLE:
        head = bytearray(path.read_bytes()[:16])
        heads.append(bytes(head))
        head[chance.randrange(12)] = chance.randrange(256)
        heads.append(bytes(head))
    index = tf.function(decoding._format_index, input_signature=[tf.TensorSpec([], tf.string)])
    for head in heads:
        found = formats.find_format(head)
        expected = formats.FORMATS.index(found) if found else len(formats.FORMATS)
        assert int(index(tf.constant(head))) == expected, head
