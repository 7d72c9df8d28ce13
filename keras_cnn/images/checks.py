"""What a file must fulfil before it is decoded."""

from __future__ import annotations

import tensorflow as tf

# Where Pillow, too, begins to warn of decompression bombs: a quarter of a gigabyte of RGB.
MAX_PIXELS = 89_478_485


def require(condition, sentence, *values):
    """An operation that raises InvalidArgumentError, with the sentence and the values, unless the condition holds."""
    return tf.raw_ops.Assert(condition=condition, data=[sentence, *values], summarize=8)


def limited(content, height, width):
    """`content`, once it is known that `height` times `width` is at most `MAX_PIXELS`."""
    shape = tf.stack([height, width])
    sentence = f"An image must have at most {MAX_PIXELS} pixels. Received height and width:"
    with tf.control_dependencies([require(pixels(shape) <= MAX_PIXELS, sentence, shape)]):
        return tf.identity(content)


def pixels(shape):
    """Height times width, where 32 bits may not do."""
    return tf.reduce_prod(tf.cast(shape, tf.int64))
