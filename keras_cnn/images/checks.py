"""What a file must fulfil before it is decoded."""

from __future__ import annotations

import tensorflow as tf

# Pillow, too, warns of decompression bombs from this size on: a quarter of a gigabyte of RGB.
MAX_PIXELS = 89_478_485


def require(condition: tf.Tensor | bool, sentence: str, *values: tf.Tensor) -> tf.Operation:
    """An operation that raises InvalidArgumentError, with the sentence and the values, unless the condition holds."""
    return tf.raw_ops.Assert(condition=condition, data=[sentence, *values], summarize=8)


def check_size(content: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """`content`, if `height` times `width` is at most `MAX_PIXELS`; an error otherwise."""
    shape = tf.stack([height, width])
    sentence = f"An image must have at most {MAX_PIXELS} pixels. Received height and width:"
    with tf.control_dependencies([require(num_pixels(shape) <= MAX_PIXELS, sentence, shape)]):
        return tf.identity(content)


def num_pixels(shape: tf.Tensor) -> tf.Tensor:
    """Height times width as int64: 32 bits may not hold it."""
    return tf.reduce_prod(tf.cast(shape, tf.int64))
