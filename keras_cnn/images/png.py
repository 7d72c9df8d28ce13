"""PNG (W3C, third edition), with each of the ways in which it can be transparent."""

from __future__ import annotations

import tensorflow as tf

from keras_cnn.images import checks, orientation
from keras_cnn.images.compositing import to_rgb
from keras_cnn.images.file_bytes import numbers, part
from keras_cnn.images.graphs import apart

SIGN, EXIF = b"\x89PNG", b"eXIf"
BIT_DEPTH = 24  # the position of the byte that tells it


@apart
def decode(content, background: int):
    """RGB `(height, width, 3)`, uint8, and its orientation."""
    width, height = numbers(content, 16, 2, tf.int32, big_endian=True)
    content = checks.limited(content, height, width)
    # One colour may be transparent; TensorFlow makes that an alpha channel only if it is asked for four channels. The
    # four letters may stand in the pixels by chance: then alpha is 255 everywhere.
    one_colour_transparent = tf.size(_split(content, "tRNS", most=1)) > 1
    image = tf.cond(
        one_colour_transparent,
        lambda: tf.io.decode_png(content, channels=4),
        lambda: tf.io.decode_png(content, channels=0),
    )
    return to_rgb(image, background), noted(content)


def noted(content):
    """The orientation in the first chunk of Exif data; its name may stand in texts and pixels too, but not before such data."""
    pieces = _split(content, EXIF)
    starts = tf.cumsum(tf.strings.length(pieces) + len(EXIF))[:-1]
    begins_as_exif = tf.reduce_any(
        tf.strings.substr(pieces[1:], 0, 4)[:, None] == tf.constant([*orientation.STARTS]), 1
    )

    def read():
        start = tf.boolean_mask(starts, begins_as_exif)[0]
        (length,) = numbers(content, start - 8, 1, tf.int32, big_endian=True)
        return orientation.read(part(content, start, length))

    return tf.cond(tf.reduce_any(begins_as_exif), read, lambda: 1)


def extent_of_16_bits(content):
    """The smallest and the largest value of the colours of a PNG file with 16 bits a channel, uint16; zeros for others."""
    start, depth = part(content, 0, 4), numbers(content, BIT_DEPTH, 1)[0]

    def extent():
        image = tf.io.decode_png(content, channels=0, dtype=tf.uint16)
        colours = image[
            ..., : (tf.shape(image)[-1] - 1) // 2 * 2 + 1
        ]  # without alpha: 1 of 1 or 2 channels, 3 of 3 or 4
        return tf.stack([tf.reduce_min(colours), tf.reduce_max(colours)])

    return tf.cond((start == SIGN) & (depth == 16), extent, lambda: tf.zeros(2, tf.uint16))


def _split(content, name, most=-1):
    """The file in pieces: up to a name, after it, and so on."""
    return tf.raw_ops.StringSplitV2(input=[content], sep=name, maxsplit=most).values
