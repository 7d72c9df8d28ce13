"""PNG (W3C, third edition), with each of the ways in which it can be transparent."""

from __future__ import annotations

import tensorflow as tf

from keras_cnn.images import checks, orientation
from keras_cnn.images.compositing import to_rgb
from keras_cnn.images.file_bytes import not_inlined, read_bytes, read_numbers

SIGNATURE, EXIF = b"\x89PNG", b"eXIf"
BIT_DEPTH = 24  # the position of the byte that tells it


@not_inlined
def decode(content: tf.Tensor, background: int) -> tuple[tf.Tensor, tf.Tensor]:
    """RGB `(height, width, 3)`, uint8, and its orientation."""
    width, height = read_numbers(content, 16, 2, tf.int32, big_endian=True)
    content = checks.check_size(content, height, width)
    # One colour may be transparent. TensorFlow makes that an alpha channel only if it is asked for four channels. The four
    # letters may stand in the pixels by chance: then alpha is 255 everywhere.
    one_colour_transparent = tf.size(_split(content, "tRNS", max_splits=1)) > 1
    image = tf.cond(
        one_colour_transparent,
        lambda: tf.io.decode_png(content, channels=4),
        lambda: tf.io.decode_png(content, channels=0),
    )
    return to_rgb(image, background), read_orientation(content)


def read_orientation(content: tf.Tensor) -> tf.Tensor:
    """The orientation in the first chunk of Exif data.

    The name of that chunk may also stand in texts and pixels, but not before data that begin as Exif data do.
    """
    pieces = _split(content, EXIF)
    starts = tf.cumsum(tf.strings.length(pieces) + len(EXIF))[:-1]
    begins_as_exif = tf.reduce_any(
        tf.strings.substr(pieces[1:], 0, 4)[:, None] == tf.constant([*orientation.STARTS]), 1
    )

    def read() -> tf.Tensor:
        start = tf.boolean_mask(starts, begins_as_exif)[0]
        (length,) = read_numbers(content, start - 8, 1, tf.int32, big_endian=True)
        return orientation.from_exif(read_bytes(content, start, length))

    return tf.cond(tf.reduce_any(begins_as_exif), read, lambda: 1)


def range_of_16_bits(content: tf.Tensor) -> tf.Tensor:
    """The smallest and the largest colour value of a PNG file with 16 bits per channel, uint16; zeros for other files."""
    start, depth = read_bytes(content, 0, 4), read_numbers(content, BIT_DEPTH, 1)[0]

    def value_range() -> tf.Tensor:
        image = tf.io.decode_png(content, channels=0, dtype=tf.uint16)
        # Without alpha: 1 of 1 or 2 channels, 3 of 3 or 4.
        colours = image[..., : (tf.shape(image)[-1] - 1) // 2 * 2 + 1]
        return tf.stack([tf.reduce_min(colours), tf.reduce_max(colours)])

    return tf.cond((start == SIGNATURE) & (depth == 16), value_range, lambda: tf.zeros(2, tf.uint16))


def _split(content: tf.Tensor, separator: bytes | str, max_splits: int = -1) -> tf.Tensor:
    """The file in pieces: up to the separator, after it, and so on."""
    return tf.raw_ops.StringSplitV2(input=[content], sep=separator, maxsplit=max_splits).values
