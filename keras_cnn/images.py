"""From the bytes of an image file to the input of a network, in TensorFlow operations only.

Training, prediction and the exported graph all call `prepare`, so what is served is what was learned.
"""

from __future__ import annotations

import tensorflow as tf

from keras_cnn.preprocessing import Preprocessing

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")


def prepare(content, preprocessing: Preprocessing):
    """Decode one image file and bring it to the size that the network sees.

    Args:
        content: Scalar string tensor (or bytes) with a JPEG, PNG, GIF, BMP or WebP file.
        preprocessing: `keras_cnn.Preprocessing`.

    Returns:
        Float32 tensor `(height, width, 3)`, RGB from 0 to 255.

    Raises:
        tf.errors.InvalidArgumentError: If the bytes are not an image that TensorFlow can decode.
    """
    return resize(decode(content, preprocessing.background), preprocessing)


def decode(content, background: int = 255):
    """Decode one image file at its own size: the first frame, gray as RGB, transparency over `background`.

    Returns:
        Float32 tensor `(height, width, 3)`, RGB from 0 to 255.
    """
    # channels=0 keeps what the file has (1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha): any other number is refused by
    # some of the formats, and 3 would show the hidden colours of transparent pixels.
    image = tf.cast(tf.io.decode_image(content, channels=0, expand_animations=False), tf.float32)
    channels = tf.shape(image)[-1]
    colours = channels - tf.cast(channels % 2 == 0, tf.int32)
    colour = tf.broadcast_to(image[..., :colours], tf.concat([tf.shape(image)[:2], [3]], 0))
    opaque = tf.cond(channels > colours, lambda: image[..., -1:] / 255.0, lambda: tf.ones_like(image[..., :1]))
    return tf.ensure_shape(colour * opaque + background * (1.0 - opaque), (None, None, 3))


def resize(image, preprocessing: Preprocessing):
    """Bring an image `(h, w, 3)` to `preprocessing.size` by its rule, with anti-aliasing.

    Returns:
        Float32 tensor `(height, width, 3)`.
    """
    height, width = preprocessing.size
    if preprocessing.resize == "squash":
        result = _scale(image, (height, width))
    elif preprocessing.resize == "cover":
        result = _scale(_crop_to_proportions(image, height, width), (height, width))
    else:
        result = _fit(image, height, width, float(preprocessing.background))
    return tf.ensure_shape(result, (height, width, 3))


def _scale(image, size):
    return tf.image.resize(image, size, method="bilinear", antialias=True)


def _crop_to_proportions(image, height, width):
    shape = tf.shape(image)
    # The largest centred box with proportions height : width, in whole pixels, never empty.
    rows = tf.clip_by_value(tf.cast(tf.round(shape[1] * height / width), tf.int32), 1, shape[0])
    columns = tf.clip_by_value(tf.cast(tf.round(shape[0] * width / height), tf.int32), 1, shape[1])
    top, left = (shape[0] - rows) // 2, (shape[1] - columns) // 2
    return image[top : top + rows, left : left + columns]


def _fit(image, height, width, background):
    shape = tf.shape(image)
    ratio = tf.minimum(height / shape[0], width / shape[1])
    rows = tf.clip_by_value(tf.cast(tf.round(tf.cast(shape[0], tf.float64) * ratio), tf.int32), 1, height)
    columns = tf.clip_by_value(tf.cast(tf.round(tf.cast(shape[1], tf.float64) * ratio), tf.int32), 1, width)
    top, left = (height - rows) // 2, (width - columns) // 2
    margins = [[top, height - rows - top], [left, width - columns - left], [0, 0]]
    return tf.pad(_scale(image, tf.stack([rows, columns])), margins, constant_values=background)
