"""Transparency, and frames smaller than their canvas, over a uniform background."""

from __future__ import annotations

import tensorflow as tf


def to_rgb(image: tf.Tensor, background: int) -> tf.Tensor:
    """An image with 1 to 4 channels (gray or RGB, with or without alpha) as uint8 RGB `(height, width, 3)`."""
    channels = tf.shape(image)[-1]
    image = tf.cond(channels % 2 == 0, lambda: _blend(image, background), lambda: image)
    image = tf.cond(channels < 3, lambda: tf.repeat(image[..., :1], 3, -1), lambda: image)
    return tf.ensure_shape(image, (None, None, 3))


def _blend(image: tf.Tensor, background: int) -> tf.Tensor:
    # 255 * 255 + 127 fits into 16 bits; floats would take twice the memory of a large image.
    colour, alpha = tf.cast(image[..., :-1], tf.uint16), tf.cast(image[..., -1:], tf.uint16)
    return tf.cast((colour * alpha + (background * (255 - alpha) + 127)) // 255, tf.uint8)


def place_on_canvas(
    frame: tf.Tensor, top: tf.Tensor, left: tf.Tensor, height: tf.Tensor, width: tf.Tensor, background: int
) -> tf.Tensor:
    """A frame `(h, w, 3)` at its place on a canvas `(height, width, 3)`; what lies outside is cut off."""
    top, left = tf.minimum(top, height), tf.minimum(left, width)
    frame = frame[: height - top, : width - left]
    rows, columns, _ = tf.unstack(tf.shape(frame))
    margins = [[top, height - top - rows], [left, width - left - columns], [0, 0]]
    return tf.pad(frame, margins, constant_values=background)
