"""PNG (W3C, third edition), with each of the ways in which it can be transparent."""

from __future__ import annotations

import tensorflow as tf

from keras_cnn.images import checks, orientation
from keras_cnn.images.compositing import to_rgb
from keras_cnn.images.file_bytes import numbers
from keras_cnn.images.graphs import apart


@apart
def decode(content, background: int):
    """RGB `(height, width, 3)`, uint8, and its orientation."""
    exif = tf.concat([_split(content, "eXIf"), [""]], 0)[1]
    width, height = numbers(content, 16, 2, tf.int32, big_endian=True)
    content = checks.limited(content, height, width)
    # One colour may be transparent; TensorFlow makes that an alpha channel only if it is asked for four channels. The
    # four letters may stand in the pixels by chance: then alpha is 255 everywhere.
    one_colour_transparent = tf.size(_split(content, "tRNS")) > 1
    image = tf.cond(
        one_colour_transparent,
        lambda: tf.io.decode_png(content, channels=4),
        lambda: tf.io.decode_png(content, channels=0),
    )
    return to_rgb(image, background), orientation.read(exif)


def _split(content, name):
    """The file up to the first chunk of a name, and what comes after the name if there is such a chunk."""
    return tf.raw_ops.StringSplitV2(input=[content], sep=name, maxsplit=1).values
