"""An image at the size of the network: its centre, squashed, fitted or covering, with anti-aliasing."""

from __future__ import annotations

import tensorflow as tf

from keras_cnn.preprocessing import Preprocessing


def downscale_factor(height: tf.Tensor, width: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """How many times smaller an image becomes, a float32 scalar; the smaller one of the two axes if it is squashed."""
    rows, columns = preprocessing.size
    fraction = preprocessing.crop_fraction
    factors = fraction * tf.cast(height, tf.float32) / rows, fraction * tf.cast(width, tf.float32) / columns
    return tf.maximum(*factors) if preprocessing.resize == "fit" else tf.minimum(*factors)


def resize(image: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Bring an image to `preprocessing.size` by its rule, with anti-aliasing.

    Args:
        image: `(h, w, 3)`, bytes or floats.
        preprocessing: Size, rule, background and crop fraction.

    Returns:
        Float32 tensor `(height, width, 3)`.
    """
    height, width = preprocessing.size
    if preprocessing.crop_fraction < 1:
        sides = [center_crop_side(side, preprocessing.crop_fraction) for side in tf.unstack(tf.shape(image)[:2])]
        image = _center_crop(image, *sides)
    if preprocessing.resize == "squash":
        result = _scale(image, height, width)
    elif preprocessing.resize == "cover":
        result = _scale(_crop_to_proportions(image, height, width), height, width)
    else:
        result = _fit(image, height, width, float(preprocessing.background))
    return tf.ensure_shape(result, (height, width, 3))


def center_crop_side(side: tf.Tensor | int, fraction: float) -> tf.Tensor:
    """About this fraction of a side in whole pixels, int32, with as many pixels left over on both ends."""
    return _centered_length(fraction * tf.cast(side, tf.float32), side)


def _scale(image: tf.Tensor, height: tf.Tensor | int, width: tf.Tensor | int) -> tf.Tensor:
    """The mean of the area that a pixel covers, or the triangle filter of Pillow's BILINEAR.

    For images of one to two times the target size, as JPEGs have after their scaled decoding, both give the same within one
    gray level, and the mean is four times as fast. For larger images the triangle is smoother; for smaller ones the mean
    would show blocks.
    """
    shape = tf.cast(tf.shape(image), tf.float32)
    rows, columns = shape[0] / tf.cast(height, tf.float32), shape[1] / tf.cast(width, tf.float32)
    less, more = tf.minimum(rows, columns), tf.maximum(rows, columns)
    return tf.cond(
        (less >= 1) & (less < 2) & (more < 4),
        lambda: tf.image.resize(tf.cast(image, tf.float32), (height, width), "area"),
        lambda: tf.image.resize(image, (height, width), "bilinear", antialias=True),
    )


def _crop_to_proportions(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
    shape = tf.shape(image)
    rows = _centered_length(shape[1] * height / width, shape[0])
    return _center_crop(image, rows, _centered_length(shape[0] * width / height, shape[1]))


def _center_crop(image: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    top, left = (tf.shape(image)[0] - rows) // 2, (tf.shape(image)[1] - columns) // 2
    return image[top : top + rows, left : left + columns]


def _centered_length(wanted: tf.Tensor, side: tf.Tensor | int) -> tf.Tensor:
    """About `wanted` of `side` pixels, a whole number with as many pixels left over on both ends."""
    length = tf.clip_by_value(tf.cast(tf.round(wanted), tf.int32), 1, side)
    return length + (side - length) % 2


def _fit(image: tf.Tensor, height: int, width: int, background: float) -> tf.Tensor:
    shape = tf.shape(image)
    ratio = tf.minimum(height / shape[0], width / shape[1])
    rows = tf.clip_by_value(tf.cast(tf.round(tf.cast(shape[0], tf.float64) * ratio), tf.int32), 1, height)
    columns = tf.clip_by_value(tf.cast(tf.round(tf.cast(shape[1], tf.float64) * ratio), tf.int32), 1, width)
    top, left = (height - rows) // 2, (width - columns) // 2
    margins = [[top, height - rows - top], [left, width - columns - left], [0, 0]]
    return tf.pad(_scale(image, rows, columns), margins, constant_values=background)
