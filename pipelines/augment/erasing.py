"""A rectangle of noise, so that no single part of a picture decides."""

from __future__ import annotations

import math

import tensorflow as tf

from pipelines.augment.geometry import pixels

SMALLEST, LARGEST = 0.02, 0.4
NARROWEST = 0.3


def erase(image, probability, draws):
    """A float image of which, with this probability, a rectangle is noise from 0 to 255.

    Its area is 2 % to 40 % of the image's, its proportions 0.3 to 1/0.3 as far as it fits (arXiv:1708.04896, algorithm 1).
    """
    height, width = image.shape[:2]
    area = draws.uniform(SMALLEST, LARGEST) * height * width
    stretch = tf.exp(0.5 * draws.around(0.0, -math.log(NARROWEST)))
    rows = pixels(tf.sqrt(area) * stretch, height)
    columns = pixels(tf.sqrt(area) / stretch, width)
    top, left = draws.integer(height - rows + 1), draws.integer(width - columns + 1)

    def covered():
        inside = _between(top, rows, height)[:, None] & _between(left, columns, width)
        return tf.where(inside[..., None], draws.noise(image.shape, 255.0), image)

    return tf.cond(draws.coin(probability), covered, lambda: image)


def _between(start, count, length):
    places = tf.range(length)
    return (places >= start) & (places < start + count)
