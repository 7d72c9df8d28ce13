"""Transparency, and frames smaller than their canvas, over a uniform background."""

from __future__ import annotations

import tensorflow as tf


def to_rgb(image, background: int):
    """RGB, uint8, of an image with 1 to 4 channels: gray or RGB, and alpha behind it or not."""
    channels = tf.shape(image)[-1]
    image = tf.cond(channels % 2 == 0, lambda: _over(image, background), lambda: image)
    image = tf.cond(channels < 3, lambda: tf.repeat(image[..., :1], 3, -1), lambda: image)
    return tf.ensure_shape(image, (None, None, 3))


def _over(image, background):
    # 255 * 255 + 127 fits into 16 bits; floats would take twice the memory of a large image.
    colour, alpha = tf.cast(image[..., :-1], tf.uint16), tf.cast(image[..., -1:], tf.uint16)
    return tf.cast((colour * alpha + (background * (255 - alpha) + 127)) // 255, tf.uint8)


def on_canvas(frame, top, left, height, width, background: int):
    """A frame `(h, w, 3)` in its place on a canvas; what lies outside is cut off."""
    top, left = tf.minimum(top, height), tf.minimum(left, width)
    frame = frame[: height - top, : width - left]
    rows, columns, _ = tf.unstack(tf.shape(frame))
    margins = [[top, height - top - rows], [left, width - left - columns], [0, 0]]
    return tf.pad(frame, margins, constant_values=background)
