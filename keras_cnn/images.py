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

    Not handled: the orientation that cameras note in EXIF, the transparent colour of a GIF (it comes out black), and
    that of a gray or RGB PNG without alpha channel (its colour shows).

    Returns:
        Uint8 tensor `(height, width, 3)`, RGB.
    """
    # channels=0 keeps what the file has (1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha): any other number is refused by
    # some of the formats, and 3 would show the hidden colours of transparent pixels.
    image = tf.cond(
        _part(content, 0, 4) + _part(content, 8, 4) == "RIFFWEBP",
        lambda: _decode_webp(content),
        lambda: tf.io.decode_image(content, channels=0, expand_animations=False),
    )
    channels = tf.shape(image)[-1]
    image = tf.cond(channels % 2 == 0, lambda: _over(image, background), lambda: image)
    # Gray becomes RGB here, as bytes: in float32 a large photo would take gigabytes.
    image = tf.cond(channels < 3, lambda: tf.repeat(image[..., :1], 3, -1), lambda: image)
    return tf.ensure_shape(image, (None, None, 3))


def _part(content, start, length):
    """Bytes of a file, blanks behind its end."""
    return tf.strings.substr(tf.strings.join([tf.strings.substr(content, 0, 32), " " * 32]), start, length)


def _decode_webp(content):
    # TensorFlow 2.21 writes four channels into room for three where an animation has no alpha channel, and the process
    # dies of it. So an animation (flag 2 of the extended header "VP8X") is declared to have alpha (flag 16).
    flags = tf.cast(tf.io.decode_raw(_part(content, 20, 1), tf.uint8)[0], tf.int32)
    animated = (_part(content, 12, 4) == "VP8X") & (flags // 2 % 2 == 1)
    declared = tf.gather(tf.constant([bytes([flags | 16]) for flags in range(256)]), flags)

    def with_alpha():
        rest = tf.strings.substr(content, 21, tf.strings.length(content) - 21)
        return tf.strings.join([_part(content, 0, 20), declared, rest])

    declared_content = tf.cond(animated, with_alpha, lambda: content)
    return tf.io.decode_webp(declared_content, channels=0)[0]


def _over(image, background):
    """An image whose last channel is alpha, put over a uniform background."""
    colour, alpha = tf.cast(image[..., :-1], tf.float32), tf.cast(image[..., -1:], tf.float32) / 255.0
    return tf.cast(tf.round(colour * alpha + background * (1.0 - alpha)), tf.uint8)


def resize(image, preprocessing: Preprocessing):
    """Bring an image `(h, w, 3)`, of bytes or floats, to `preprocessing.size` by its rule, with anti-aliasing.

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
