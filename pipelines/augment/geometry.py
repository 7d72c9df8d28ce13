"""Crops, flips, rotations and other affine transformations."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from pipelines.augment.draws import Draws

MIN_RATIO = 3 / 4


def crop(image: tf.Tensor, min_area: float, draws: Draws) -> tf.Tensor:
    """A random crop of an image `(h, w, c)`: area `min_area` to 1, ratio of the sides 3/4 to 4/3 of the image's.

    The larger the crop, the closer its ratio is to the image's. So a crop always fits, and no draw is repeated.
    """
    area = draws.uniform(min_area, 1.0)
    max_log_ratio = tf.minimum(-math.log(MIN_RATIO), -tf.math.log(area))
    stretch = tf.exp(0.5 * max_log_ratio * draws.uniform(-1.0, 1.0))
    height, width = image.shape[:2]
    rows = pixels(height * tf.sqrt(area) * stretch, height)
    columns = pixels(width * tf.sqrt(area) / stretch, width)
    top, left = draws.integer(height - rows + 1), draws.integer(width - columns + 1)
    return image[top : top + rows, left : left + columns]


def pixels(length: tf.Tensor, longest: int) -> tf.Tensor:
    """Whole pixels, at least one."""
    return tf.clip_by_value(tf.cast(tf.round(length), tf.int32), 1, longest)


def flip(image: tf.Tensor, axis: int, draws: Draws) -> tf.Tensor:
    """An image flipped along an axis with probability 1/2."""
    return tf.cond(draws.bernoulli(), lambda: tf.reverse(image, [axis]), lambda: image)


def rotate(image: tf.Tensor, degrees: Any) -> tf.Tensor:
    """A float image rotated anticlockwise about its centre."""
    angle = degrees * (math.pi / 180)
    return transform(image, [[tf.cos(angle), -tf.sin(angle)], [tf.sin(angle), tf.cos(angle)]])


def transform(image: tf.Tensor, matrix: Any, shift: Any = (0.0, 0.0)) -> tf.Tensor:
    """A float image `(h, w, c)` whose pixel (x, y) comes from `matrix` (x, y) + `shift`, in pixels from the centre.

    Pixels from outside the image are filled by reflection at the border.
    """
    (a, b), (c, d) = matrix
    x, y = (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2
    rows = [a, b, x + shift[0] - a * x - b * y, c, d, y + shift[1] - c * x - d * y, 0.0, 0.0]
    result = keras.ops.image.affine_transform(image, tf.stack(rows), "bilinear", "reflect", data_format="channels_last")
    return tf.ensure_shape(result, image.shape)
