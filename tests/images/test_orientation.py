"""The orientation in Exif data, as the standard draws it and where it is malformed."""

import io
import random
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from keras_cnn import images
from keras_cnn.images import orientation

FILES = Path(__file__).parent.parent / "data" / "images"

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
    assert orientation.from_exif(tf.constant(tiff)) == 6
    assert orientation.from_exif(tf.constant(change(tiff))) == 1


def test_more_entries_announced_than_there_are_does_no_harm():
    _, tiff, _ = exif()
    assert orientation.from_exif(tf.constant(tiff[:8] + b"\xff\xff" + tiff[10:])) == 6


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


def entry(order, tag, kind, count, value):
    """Twelve bytes of a directory; `value` fills the last four."""
    return struct.pack(f"{order}HHI", tag, kind, count) + value.ljust(4, b"\0")[:4]


def tiff(order="<", entries=(), start=8, rest=b"", magic=42):
    """Exif data from the TIFF header on, with one directory at `start`."""
    header = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", magic, start)
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    return header.ljust(start, b"\0") + directory + rest


FORMS = {
    1: "B",
    2: "c",
    3: "H",
    4: "I",
    5: "II",
    6: "b",
    7: "B",
    8: "h",
    9: "i",
    10: "ii",
    11: "f",
    12: "d",
    13: "I",
    16: "q",
}


def packed(order, kind, *values):
    """Values of an entry's type; of rationals value / 1, of texts a digit."""
    form = FORMS.get(kind, "I")
    values = [str(value % 10).encode() for value in values] if form == "c" else values
    values = [number for value in values for number in ((value, 1) if len(form) == 2 else (value,))]
    return struct.pack(order + form[0] * len(values), *values)


def orientation_entry(order, kind, values, end=None):
    """The entry, and what it keeps elsewhere if it is longer than four bytes, at the position `end`."""
    data = packed(order, kind, *values)
    if len(data) <= 4:
        return entry(order, 0x0112, kind, len(values), data), b""
    return entry(order, 0x0112, kind, len(values), struct.pack(f"{order}I", end)), data


def by_pillow(exif):
    """The orientation that `exif_transpose` turns an image by: found by looking which of the eight it looks like."""
    pixels = np.arange(2 * 3 * 3, dtype="uint8").reshape(2, 3, 3)
    image = Image.fromarray(pixels)
    image.info["exif"] = exif
    with warnings.catch_warnings(action="ignore"):
        turned = np.asarray(ImageOps.exif_transpose(image))
    (found,) = [value for value, turn in UPRIGHT.items() if np.array_equal(turn(pixels), turned)]
    return found


TYPES = [(order, kind, value) for order in "<>" for kind in (*range(1, 14), 16, 99) for value in (0, 1, 6, 8, 9)]


def test_each_type_of_number_is_read_as_pillow_reads_it():
    received, expected = {}, {}
    for order, kind, value in TYPES:
        for count in (0, 1, 2, 3):
            values = [value, 3, 3][:count]
            one, rest = orientation_entry(order, kind, values, end=8 + 2 + 12 + 4)
            exif = tiff(order, [one], rest=rest)
            received[order, kind, value, count] = int(orientation.from_exif(tf.constant(exif)))
            expected[order, kind, value, count] = by_pillow(exif)
    assert received == expected
    turning = {kind for order, kind, value, count in received if received[order, kind, 6, 1] == 6}
    assert turning == {3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 16}


def test_fractions_are_no_orientations():
    for numerator, denominator, found in ((12, 2, 6), (13, 2, 1), (6, 0, 1), (0, 0, 1), (2**32 - 6, 2**32 - 1, 1)):
        exif = tiff(
            "<", [entry("<", 0x0112, 5, 1, struct.pack("<I", 26))], rest=struct.pack("<II", numerator, denominator)
        )
        assert orientation.from_exif(tf.constant(exif)) == by_pillow(exif) == found


SIX = entry("<", 0x0112, 4, 1, struct.pack("<I", 6))
EIGHT = entry("<", 0x0112, 3, 1, struct.pack("<H", 8))
MAKER = entry("<", 0x010F, 2, 6, struct.pack("<I", 38))  # a text of six bytes after a directory of two entries
ODD = {
    "directory further on": tiff("<", [SIX], start=100),
    "directory at an odd position": tiff("<", [SIX], start=9),
    "two hundred entries": tiff("<", [entry("<", 0x8000 + n, 3, 1, b"\1\0") for n in range(200)] + [SIX]),
    "tags in another order": tiff("<", [entry("<", 0x8769, 4, 1, b"\0\0\0\0"), SIX, entry("<", 0x0100, 3, 1, b"\1\0")]),
    "the first of two": tiff("<", [SIX, EIGHT]),
    "the first one has no value": tiff("<", [entry("<", 0x0112, 4, 0, b"\6"), EIGHT]),
    "the first one is of no type": tiff("<", [entry("<", 0x0112, 40, 1, b"\6"), EIGHT]),
    "the first one is a byte": tiff("<", [entry("<", 0x0112, 1, 1, b"\6"), EIGHT]),
    "a directory in itself": tiff("<", [entry("<", 0x8769, 4, 1, struct.pack("<I", 8)), SIX]),
    "a text before it": tiff("<", [MAKER, SIX], rest=b"Canon\0"),
    "a text before it, cut off": tiff("<", [MAKER, SIX], rest=b"Can"),
    "a text that is longer than all": tiff("<", [entry("<", 0x010F, 2, 2**31, struct.pack("<I", 38)), SIX]),
    "a value beyond the end": tiff("<", [entry("<", 0x0112, 4, 2, struct.pack("<I", 2**32 - 4))]),
    "42 in the other byte order": tiff("<", [SIX], magic=42 * 256),
    "another number than 42": tiff("<", [SIX], magic=0x55),
    "with the name of its segment": b"Exif\0\0" + tiff("<", [SIX]),
    "with two names": b"Exif\0\0Exif\0\0" + tiff("<", [SIX]),
    "more entries announced than there are": tiff("<", [SIX])[:8] + b"\xff\xff" + tiff("<", [SIX])[10:],
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_exif_data_are_read_as_pillow_reads_them(kind):
    try:
        expected = by_pillow(ODD[kind])
    except SyntaxError:  # Pillow knows no such header
        expected = 1
    assert orientation.from_exif(tf.constant(ODD[kind])) == expected


def test_exif_data_cut_off_anywhere_are_read_as_pillow_reads_them():
    exif = tiff("<", [MAKER, SIX, EIGHT], rest=bytes(12) + b"Canon\0")
    cuts = range(8, len(exif) + 1)
    found = [int(orientation.from_exif(tf.constant(exif[:cut]))) for cut in cuts]
    assert found == [by_pillow(exif[:cut]) for cut in cuts] and set(found) == {1, 6}


def segment(marker, data):
    return bytes([255, marker]) + (len(data) + 2).to_bytes(2) + data


def jpeg(*segments):
    """`rgb.jpg` with segments before all others."""
    content = (FILES / "rgb.jpg").read_bytes()
    return content[:2] + b"".join(segments) + content[2:]


XMP = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>")
EXIF_SIX = segment(0xE1, b"Exif\0\0" + tiff("<", [SIX]))
IN_FILES = {
    "XMP first": jpeg(XMP, EXIF_SIX),
    "after a comment that begins so": jpeg(segment(0xFE, b"Exif\0\0"), EXIF_SIX),
    "after ten applications": jpeg(*[segment(0xE0 + n, b"x" * n) for n in range(2, 12)], EXIF_SIX),
    "in two segments": jpeg(
        segment(0xE1, b"Exif\0\0" + tiff("<", [SIX], start=60_000)[:30_000]),
        segment(0xE1, b"Exif\0\0" + tiff("<", [SIX], start=60_000)[30_000:]),
    ),
    "the second of two that are whole": jpeg(segment(0xE1, b"Exif\0\0" + tiff("<", [])), EXIF_SIX),
    "after an empty one": jpeg(segment(0xE1, b"Exif\0\0"), EXIF_SIX),
    "before a filling byte": jpeg(b"\xff", EXIF_SIX),
}


def png(*chunks, at=33):
    content = (FILES / "rgb.png").read_bytes()
    chunks = [len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4) for name, data in chunks]
    return content[:at] + b"".join(chunks) + content[at:]


IN_FILES |= {
    "PNG": png((b"eXIf", tiff(">", [entry(">", 0x0112, 4, 1, b"\0\0\0\6")]))),
    "PNG, with the name of JPEG's segment": png((b"eXIf", b"Exif\0\0" + tiff("<", [SIX]))),
    "PNG, after a text with the chunk's name": png((b"tEXt", b"Comment\0eXIf and IDAT"), (b"eXIf", tiff("<", [SIX]))),
    "PNG, after the pixels": png((b"eXIf", tiff("<", [SIX])), at=-12),
    "PNG, a text of the chunk's name alone": png((b"tEXt", b"Comment\0eXIf")),
}


def webp(exif):
    buffer = io.BytesIO()
    Image.open(FILES / "rgb.png").save(buffer, "WEBP", lossless=True, exif=b"Exif\0\0" + bytes(len(exif)))
    content = buffer.getvalue()
    assert content.count(bytes(len(exif))) >= 1
    at = content.index(b"EXIF") + 4
    return content[:at] + struct.pack("<I", len(exif)) + exif + bytes(len(exif) % 2)


IN_FILES |= {
    "WebP": webp(tiff("<", [SIX])),
    "WebP, big-endian": webp(tiff(">", [entry(">", 0x0112, 9, 1, b"\0\0\0\6")])),
    "WebP, with the name of JPEG's segment": webp(b"Exif\0\0" + tiff("<", [SIX])),
}


@pytest.mark.parametrize("kind", IN_FILES)
def test_wherever_exif_data_stand_files_are_seen_as_pillow_shows_them(kind):
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(IN_FILES[kind]))).convert("RGB")
    np.testing.assert_array_equal(images.decode(IN_FILES[kind]), np.asarray(expected))
    known = kind in ("the second of two that are whole", "PNG, a text of the chunk's name alone")
    assert (expected.size == (24, 16)) == known
    assert images.read_orientation(IN_FILES[kind]) == (1 if known else 6)
    assert images.read_orientation(b"?") == 1


def test_an_orientation_outside_of_exif_data_is_left_aside():
    """As in browsers; Pillow would turn both."""
    xmp = segment(0xE1, b'http://ns.adobe.com/xap/1.0/\0<rdf:Description tiff:Orientation="6"/>')
    raw = "\nexif\n{:8}\n{}\n".format(32, (b"Exif\0\0" + tiff("<", [SIX])).hex())
    for content in (jpeg(xmp), png((b"tEXt", b"Raw profile type exif\0" + raw.encode()))):
        assert ImageOps.exif_transpose(Image.open(io.BytesIO(content))).size == (16, 24)
        assert images.decode(content).shape == (16, 24, 3)
