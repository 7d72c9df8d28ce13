"""One image file, of any kind that TensorFlow reads, as an upright RGB image."""

from __future__ import annotations

import functools

import tensorflow as tf

from keras_cnn.images import bmp, gif, jpeg, orientation, png, webp
from keras_cnn.images.checks import require
from keras_cnn.images.file_bytes import numbers

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".gif", ".bmp", ".dib", ".webp")


def upright_rgb(content, background: int, shrinkage=None):
    """`images.decode`; a JPEG may be smaller by the power of two that `shrinkage(height, width)`, upright, allows."""
    kind = _kind(content)
    readers = [
        lambda: jpeg.decode(content, shrinkage),
        *[functools.partial(kind_.decode, content, background) for kind_ in (png, webp, gif, bmp)],
        _refuse,
    ]
    image, noted = tf.switch_case(kind, readers)
    return orientation.upright(tf.ensure_shape(image, (None, None, 3)), noted)


def orientation_of(content):
    """The orientation, 1 to 8, in which `upright_rgb` shows a file, an int32 scalar; 1 where none is noted."""
    nothing = functools.partial(tf.constant, 1)
    readers = [functools.partial(kind.noted, content) for kind in (jpeg, png, webp)]
    return tf.switch_case(_kind(content), [*readers, *[nothing] * 3])


def _kind(content):
    """0 JPEG, 1 PNG, 2 WebP, 3 GIF, 4 BMP, 5 none of them."""
    start, _, third = numbers(content, 0, 3, tf.int32)
    jpeg_, bmp_ = start % 2**24 == _word(b"\xff\xd8\xff"), start % 2**16 == _word(b"BM")
    webp_ = (start == _word(b"RIFF")) & (third == _word(b"WEBP"))
    kinds = tf.stack([jpeg_, start == _word(b"\x89PNG"), webp_, start == _word(b"GIF8"), bmp_, True])
    return tf.argmax(tf.cast(kinds, tf.int32), output_type=tf.int32)


def _word(text):
    return int.from_bytes(text, "little", signed=len(text) == 4)


def _refuse():
    with tf.control_dependencies([require(False, "A file must begin as a JPEG, PNG, GIF, BMP or WebP file does.")]):
        return tf.zeros((0, 0, 3), tf.uint8), 1
