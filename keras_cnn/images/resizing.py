"""An image at the size of the network: its middle, squashed, fitted or covering, with anti-aliasing."""

from __future__ import annotations

import tensorflow as tf

from keras_cnn.preprocessing import Preprocessing


def shrinkage(height, width, preprocessing: Preprocessing):
    """How many times smaller an image becomes, a float32 scalar: along the axis where that is less if it is squashed."""
    rows, columns = preprocessing.size
    share = preprocessing.crop_fraction
    times = share * tf.cast(height, tf.float32) / rows, share * tf.cast(width, tf.float32) / columns
    return tf.maximum(*times) if preprocessing.resize == "fit" else tf.minimum(*times)


def resize(image, preprocessing: Preprocessing):
    """Bring an image `(h, w, 3)`, of bytes or floats, to `preprocessing.size` by its rule, with anti-aliasing.

    Returns:
        Float32 tensor `(height, width, 3)`.
    """
    height, width = preprocessing.size
    if preprocessing.crop_fraction < 1:
        image = _crop(image, *(middle(side, preprocessing.crop_fraction) for side in tf.unstack(tf.shape(image)[:2])))
    if preprocessing.resize == "squash":
        result = _scale(image, height, width)
    elif preprocessing.resize == "cover":
        result = _scale(_crop_to_proportions(image, height, width), height, width)
    else:
        result = _fit(image, height, width, float(preprocessing.background))
    return tf.ensure_shape(result, (height, width, 3))


def _scale(image, height, width):
    """The mean of the area that a pixel covers, or the triangle filter of Pillow's BILINEAR.

    Between once and twice the size, where JPEGs are after their scaled decoding, both are within one gray level of each
    other and the first is four times as fast. Beyond, the triangle is smoother; below, the area would be in blocks.
    """
    shape = tf.cast(tf.shape(image), tf.float32)
    rows, columns = shape[0] / tf.cast(height, tf.float32), shape[1] / tf.cast(width, tf.float32)
    less, more = tf.minimum(rows, columns), tf.maximum(rows, columns)
    return tf.cond(
        (less >= 1) & (less < 2) & (more < 4),
        lambda: tf.image.resize(tf.cast(image, tf.float32), (height, width), "area"),
        lambda: tf.image.resize(image, (height, width), "bilinear", antialias=True),
    )


def middle(side, share: float):
    """Whole pixels, about that share of a side, with as many left over on both sides; int32."""
    return _centred(share * tf.cast(side, tf.float32), side)


def _crop_to_proportions(image, height, width):
    shape = tf.shape(image)
    return _crop(image, _centred(shape[1] * height / width, shape[0]), _centred(shape[0] * width / height, shape[1]))


def _crop(image, rows, columns):
    top, left = (tf.shape(image)[0] - rows) // 2, (tf.shape(image)[1] - columns) // 2
    return image[top : top + rows, left : left + columns]


def _centred(wanted, present):
    """Whole pixels, about as many as wanted, of those present, with as many left over on both sides."""
    length = tf.clip_by_value(tf.cast(tf.round(wanted), tf.int32), 1, present)
    return length + (present - length) % 2


def _fit(image, height, width, background):
    shape = tf.shape(image)
    ratio = tf.minimum(height / shape[0], width / shape[1])
    rows = tf.clip_by_value(tf.cast(tf.round(tf.cast(shape[0], tf.float64) * ratio), tf.int32), 1, height)
    columns = tf.clip_by_value(tf.cast(tf.round(tf.cast(shape[1], tf.float64) * ratio), tf.int32), 1, width)
    top, left = (height - rows) // 2, (width - columns) // 2
    margins = [[top, height - rows - top], [left, width - columns - left], [0, 0]]
    return tf.pad(_scale(image, rows, columns), margins, constant_values=background)
