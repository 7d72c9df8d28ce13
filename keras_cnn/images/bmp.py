"""BMP (Windows): what TensorFlow takes for gray may be a palette, and what it takes for alpha may be nothing."""

from __future__ import annotations

import tensorflow as tf

from keras_cnn.images import checks
from keras_cnn.images.compositing import to_rgb
from keras_cnn.images.file_bytes import not_inlined, read_bytes, read_numbers

# Compressions. With "fields", a file says where the colours are in a pixel; only the usual places are read.
NONE, FIELDS = 0, 3
RED, GREEN, BLUE, ALPHA = 0x00FF0000, 0x0000FF00, 0x000000FF, -0x01000000
# From this size on, a header says where alpha is.
HEADER_WITH_ALPHA = 56


@not_inlined
def decode(content: tf.Tensor, background: int) -> tuple[tf.Tensor, int]:
    """RGB `(height, width, 3)`, uint8, and orientation 1: the format has no orientations."""
    header, width, height, bits, compression, *_, red, green, blue, alpha = read_numbers(content, 14, 14, tf.int32)
    usual_fields = (compression == FIELDS) & (red == RED) & (green == GREEN) & (blue == BLUE)
    bits = bits // 2**16
    usual_bits = (bits == 8) | (bits == 24) | (bits == 32)
    readable = (header >= 40) & usual_bits & ((compression == NONE) | usual_fields)
    sentence = (
        "A BMP file must be uncompressed, with 8, 24 or 32 bits per pixel in the usual order, of Windows 3 or later."
    )
    with tf.control_dependencies([checks.require(readable, sentence)]):
        content = checks.check_size(content, tf.abs(height), width)
    image = tf.io.decode_bmp(content)
    channels = 3 + tf.cast(usual_fields & (header >= HEADER_WITH_ALPHA) & (alpha == ALPHA), tf.int32)
    image = tf.cond(
        bits == 8,
        lambda: _look_up_colours(image, read_bytes(content, 14 + header, 1024)),
        lambda: image[..., :channels],
    )
    return to_rgb(image, background), 1


def _look_up_colours(indices: tf.Tensor, palette: tf.Tensor) -> tf.Tensor:
    palette = tf.reshape(tf.io.decode_raw(palette, tf.uint8, fixed_length=1024), (256, 4))
    return tf.gather(palette[:, 2::-1], tf.cast(indices[..., 0], tf.int32))
