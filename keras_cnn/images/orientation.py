"""The orientation that cameras write next to the pixels (Exif 2.32, tag 0x0112): reading and applying it.

The standard wants a SHORT. Cameras, phones and editors write other types of numbers too, and viewers follow them. So this
module reads what Pillow's `ImageOps.exif_transpose` reads of the same bytes, also of damaged ones. Copies of the orientation
outside of Exif data, in XMP and in the text chunks of PNG files, are ignored, as browsers do.
"""

from __future__ import annotations

import tensorflow as tf

from keras_cnn.images.file_bytes import not_inlined, read_bytes

TAG, ENTRY, INLINE = 0x0112, 12, 4
# Some programs write the name of JPEG's segment before the data in PNG and WebP files too, or write it twice.
NAME = r"^(Exif\x00\x00){1,2}"
# The byte order, and 42 in it or, as it occurs, in the other one.
HEADERS = (b"II\x2a\0", b"II\0\x2a", b"MM\0\x2a", b"MM\x2a\0")
STARTS = (*HEADERS, b"Exif")
# Types of entries (TIFF 6.0 and its supplements) by number: the bytes of one value, and how a number is read; 0 and None
# where there is no such type, or its values are texts or bytes.
SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 0)
NUMBERS = {
    3: tf.uint16,
    4: tf.uint32,
    6: tf.int8,
    8: tf.int16,
    9: tf.int32,
    11: tf.float32,
    12: tf.float64,
    13: tf.uint32,
    16: tf.int64,
}
RATIONALS = {5: tf.uint32, 10: tf.int32}


@not_inlined
def from_exif(exif: tf.Tensor) -> tf.Tensor:
    """The orientation, 1 to 8, in Exif data; 1 if they have none or are malformed."""
    exif = tf.strings.regex_replace(exif, NAME, "", replace_global=False)
    start = read_bytes(exif, 0, 4)
    known = tf.reduce_any(start == tf.constant([*HEADERS]))
    return tf.cond(known, lambda: _from_directory(exif, read_bytes(start, 0, 2) == "MM"), lambda: 1)


def _from_directory(exif: tf.Tensor, big_endian: tf.Tensor) -> tf.Tensor:
    """The orientation of the first entry of the first directory that has the tag and a value."""
    size = tf.cast(tf.strings.length(exif), tf.int64)
    start = _numbers(read_bytes(exif, 4, 4), tf.uint32, big_endian)[0]
    count = _numbers(_read_at(exif, start, 2), tf.uint16, big_endian)[0]
    entries = _read_at(exif, start + 2, tf.cast(count, tf.int32) * ENTRY)
    whole = (
        tf.maximum(tf.strings.length(entries) // ENTRY, 1) * ENTRY
    )  # without entries, one of zeros, which has no type
    fields = tf.reshape(_numbers(read_bytes(entries, 0, whole), tf.uint16, big_endian, whole), (-1, 6))
    tag, kind, *halves = tf.unstack(tf.cast(fields, tf.int64), axis=1)
    values, place = (_join_halves(one, other, big_endian) for one, other in (halves[:2], halves[2:]))
    kind = tf.minimum(kind, len(SIZES) - 1)
    length = values * tf.gather(tf.constant(SIZES, tf.int64), kind)
    elsewhere = tf.where(length > INLINE, length, 0)
    # As Pillow does: an entry is skipped if the file is too short for all values so far; after a cut-off value nothing is read.
    present = (length > 0) & ~((elsewhere > 0) & (tf.cumsum(elsewhere) > size))
    cut = present & (elsewhere > 0) & (place + length > size)
    found = tf.where((tag == TAG) & present & (tf.cumsum(tf.cast(cut, tf.int32)) == 0))[:1, 0]

    def value() -> tf.Tensor:
        row = found[0]
        inline = read_bytes(entries, tf.cast(row, tf.int32) * ENTRY + 8, INLINE)
        data = tf.cond(length[row] > INLINE, lambda: _read_at(exif, place[row], 8), lambda: inline)
        return _orientation(data, kind[row], big_endian)

    return tf.cond(tf.size(found) > 0, value, lambda: 1)


def _orientation(data: tf.Tensor, kind: tf.Tensor, big_endian: tf.Tensor) -> tf.Tensor:
    """The first number of an entry's data, if it is an orientation; otherwise 1."""
    numbers = {number: _numbers(data, dtype, big_endian)[0] for number, dtype in NUMBERS.items()}
    for number, dtype in RATIONALS.items():
        numerator, denominator = tf.unstack(_numbers(data, dtype, big_endian), 2)
        numbers[number] = numerator / denominator
    none = tf.constant(0.0, tf.float64)
    value = tf.stack([tf.cast(numbers.get(number, none), tf.float64) for number in range(len(SIZES))])[kind]
    return tf.where((value >= 1) & (value <= 8) & (value == tf.floor(value)), tf.cast(value, tf.int32), 1)


def _numbers(data: tf.Tensor, dtype: tf.DType, big_endian: tf.Tensor, size: tf.Tensor | int = 8) -> tf.Tensor:
    """The numbers in `size` bytes, zeros after the end of the data; small types unchanged, those from 4 bytes on as float64."""
    signed = {tf.uint32: tf.int32}.get(dtype, dtype)
    values = [tf.io.decode_raw(data, signed, little_endian=little, fixed_length=size) for little in (False, True)]
    values = tf.where(big_endian, *values)
    if dtype == tf.uint32:
        return tf.cast(tf.bitcast(values, tf.uint32), tf.float64)
    return values if dtype.size < 4 else tf.cast(values, tf.float64)


def _join_halves(first: tf.Tensor, second: tf.Tensor, big_endian: tf.Tensor) -> tf.Tensor:
    """A number of four bytes from its two halves in the order of the file."""
    high, low = tf.where(big_endian, first, second), tf.where(big_endian, second, first)
    return high * 2**16 + low


def _read_at(content: tf.Tensor, position: tf.Tensor, length: tf.Tensor | int) -> tf.Tensor:
    """`read_bytes` at a position that may be larger than an int32."""
    return read_bytes(content, tf.cast(tf.minimum(tf.cast(position, tf.float64), 2.0**31 - 1), tf.int32), length)


def apply_orientation(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """An image `(h, w, channels)` as it is meant to be seen; the orientations 5 to 8 swap height and width."""

    def transform() -> tf.Tensor:
        swapped = tf.cast(orientation > 4, tf.int32)
        image_or_transpose = tf.transpose(image, tf.stack([swapped, 1 - swapped, 2]))
        # Then 3, 4, 7 and 8 are upside down, and 2, 3, 6 and 7 flipped left to right.
        flipped = tf.stack([(orientation - 1) // 2 % 2, orientation // 2 % 2, 0])
        return tf.raw_ops.Reverse(tensor=image_or_transpose, dims=flipped == 1)

    return tf.cond(orientation == 1, lambda: image, transform)
