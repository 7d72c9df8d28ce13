"""Random erasing: noise replaces a rectangle, so that the network does not rely on one part of the image."""

from __future__ import annotations

import math

import tensorflow as tf

from pipelines.augment.draws import Draws
from pipelines.augment.geometry import pixels

MIN_AREA, MAX_AREA = 0.02, 0.4  # of the image
MIN_RATIO = 0.3  # of the sides


def erase(image: tf.Tensor, probability: float, draws: Draws) -> tf.Tensor:
    """A float image with, at this probability, a rectangle of noise from 0 to 255.

    The rectangle has 2 % to 40 % of the area, and sides in a ratio of 0.3 to 1/0.3 if that fits (arXiv:1708.04896,
    algorithm 1).
    """
    height, width = image.shape[:2]
    area = draws.uniform(MIN_AREA, MAX_AREA) * height * width
    stretch = tf.exp(0.5 * draws.uniform_around(0.0, -math.log(MIN_RATIO)))
    rows = pixels(tf.sqrt(area) * stretch, height)
    columns = pixels(tf.sqrt(area) / stretch, width)
    top, left = draws.integer(height - rows + 1), draws.integer(width - columns + 1)

    def erased() -> tf.Tensor:
        inside = _between(top, rows, height)[:, None] & _between(left, columns, width)
        return tf.where(inside[..., None], draws.noise(image.shape, 255.0), image)

    return tf.cond(draws.bernoulli(probability), erased, lambda: image)


def _between(start: tf.Tensor, count: tf.Tensor, length: int) -> tf.Tensor:
    indices = tf.range(length)
    return (indices >= start) & (indices < start + count)
