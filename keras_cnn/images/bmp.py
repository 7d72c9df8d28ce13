"""BMP (Windows): what TensorFlow takes for gray may be a palette, and what it takes for alpha may be nothing."""

from __future__ import annotations

import tensorflow as tf

from keras_cnn.images import checks
from keras_cnn.images.compositing import to_rgb
from keras_cnn.images.file_bytes import numbers, part
from keras_cnn.images.graphs import apart

# Compressions. Where the fields of a pixel are given, only the usual ones are read: blue, green, red, alpha.
NONE, FIELDS = 0, 3
RED, GREEN, BLUE, ALPHA = 0x00FF0000, 0x0000FF00, 0x000000FF, -0x01000000
# From this size on, a header says where alpha is.
HEADER_WITH_ALPHA = 56


@apart
def decode(content, background: int):
    """RGB `(height, width, 3)`, uint8, and its orientation: there is none."""
    header, width, height, bits, compression, *_, red, green, blue, alpha = numbers(content, 14, 14, tf.int32)
    usual_fields = (compression == FIELDS) & (red == RED) & (green == GREEN) & (blue == BLUE)
    bits = bits // 2**16
    usual_bits = (bits == 8) | (bits == 24) | (bits == 32)
    readable = (header >= 40) & usual_bits & ((compression == NONE) | usual_fields)
    sentence = "A BMP file must be uncompressed, with 8, 24 or 32 bits a pixel in the usual order, and no older than Windows 3."
    with tf.control_dependencies([checks.require(readable, sentence)]):
        content = checks.limited(content, tf.abs(height), width)
    image = tf.io.decode_bmp(content)
    channels = 3 + tf.cast(usual_fields & (header >= HEADER_WITH_ALPHA) & (alpha == ALPHA), tf.int32)
    image = tf.cond(
        bits == 8, lambda: _coloured(image, part(content, 14 + header, 1024)), lambda: image[..., :channels]
    )
    return to_rgb(image, background), 1


def _coloured(indices, palette):
    palette = tf.reshape(tf.io.decode_raw(palette, tf.uint8, fixed_length=1024), (256, 4))
    return tf.gather(palette[:, 2::-1], tf.cast(indices[..., 0], tf.int32))
