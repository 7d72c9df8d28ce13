"""Brightness, contrast, saturation and hue as one matrix: an image is read and written once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.augment.draws import Draws
from pipelines.augment.presets import Augmentation

GREY = np.array([0.299, 0.587, 0.114], "float32")  # ITU-R BT.601, as in Pillow and Keras
# YIQ (NTSC, 1953), a basis of colour whose first axis is grey. Rows: the coordinates of R, G and B.
YIQ = np.array([GREY, [0.59590059, -0.27455667, -0.32134392], [0.21153661, -0.52273617, 0.31119955]], "float32").T
RGB = np.linalg.inv(YIQ)


def jitter(image: tf.Tensor, augmentation: Augmentation, draws: Draws) -> tf.Tensor:
    """A float image with its colours changed within the ranges of `augmentation`; clipped to 0..255 once, at the end."""
    brightness = draws.uniform_around(1.0, augmentation.brightness)
    contrast = draws.uniform_around(1.0, augmentation.contrast)
    matrix = saturation(draws.uniform_around(1.0, augmentation.saturation)) * brightness * contrast
    if augmentation.hue:
        matrix = tf.matmul(hue(draws.uniform_around(0.0, augmentation.hue)), matrix)
    # Hue and saturation do not change the mean grey.
    return apply(image, matrix, (1.0 - contrast) * brightness * mean_grey(image))


def apply(image: tf.Tensor, matrix: Any, shift: Any = 0.0) -> tf.Tensor:
    """Each colour (R, G, B) multiplied by a matrix, plus a shift, clipped to 0..255."""
    pixels = tf.matmul(tf.reshape(image, (-1, 3)), matrix) + shift
    return tf.reshape(tf.clip_by_value(pixels, 0.0, 255.0), image.shape)


def mean_grey(image: tf.Tensor) -> tf.Tensor:
    """The mean grey of all pixels."""
    count = image.shape[0] * image.shape[1]
    # Multiplying by a row of ones takes a third of the time of `reduce_mean`.
    total = tf.matmul(tf.ones((1, count)), tf.reshape(image, (count, 3)))
    return tf.reduce_sum(total * GREY) / count


def saturation(factor: Any) -> tf.Tensor:
    """The matrix that multiplies the distance of a colour (R, G, B) from its grey by `factor`."""
    return factor * tf.eye(3) + (1.0 - factor) * GREY[:, None]


def hue(degrees: Any) -> tf.Tensor:
    """The matrix that rotates a colour (R, G, B) about the grey axis."""
    angle = degrees * (math.pi / 180)
    cosine, sine = tf.cos(angle), tf.sin(angle)
    rotation = tf.stack([[1.0, 0.0, 0.0], [0.0, cosine, sine], [0.0, -sine, cosine]])
    return tf.matmul(tf.matmul(YIQ, rotation), RGB)
