"""From the bytes of an image file to the input of a network, in TensorFlow operations only.

Training, prediction and the exported graph all call `prepare`, so that a served network sees what the trained one saw.

Why headers and Exif data are read by hand here, with string operations: the code must be part of the exported graph, where
there is neither Pillow nor Python, and TensorFlow's own decoders do not suffice. They ignore the orientation in Exif data, and
the caller cannot choose the colour under transparent pixels. They decode all frames of an animation, and TensorFlow 2.21
crashes on some animated WebP files (see `webp`). They allocate the memory that a small file announces, however much it is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import tensorflow as tf

from keras_cnn.images import decoding
from keras_cnn.images.checks import MAX_PIXELS
from keras_cnn.images.formats import SUFFIXES
from keras_cnn.images.resizing import downscale_factor, resize
from keras_cnn.preprocessing import Preprocessing

__all__ = ["MAX_PIXELS", "SUFFIXES", "decode", "prepare", "read_orientation", "resize"]


def prepare(content: bytes | tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Decode one image file, apply its orientation, and bring it to the input size of the network.

    A JPEG of at least twice that size is decoded at 1/2, 1/4 or 1/8 of its size, which takes less time.

    Args:
        content: Scalar string tensor (or bytes) with a JPEG, PNG, GIF, BMP or WebP file.
        preprocessing: `keras_cnn.Preprocessing`.

    Returns:
        Float32 tensor `(height, width, 3)`, RGB from 0 to 255.

    Raises:
        tf.errors.InvalidArgumentError: As `decode`.
    """
    return _with_short_errors(_prepare_function(preprocessing), content)


def decode(content: bytes | tf.Tensor, background: int = 255) -> tf.Tensor:
    """Decode one image file at its own size: the first frame, with its orientation applied, gray as RGB.

    Args:
        content: Scalar string tensor (or bytes) with a JPEG, PNG, GIF, BMP or WebP file; its first bytes tell which. The
            orientation in the Exif data is applied; malformed Exif data are ignored.
        background: 0 (black) to 255 (white), the colour under transparent pixels.

    Returns:
        Uint8 tensor `(height, width, 3)`, RGB.

    Raises:
        tf.errors.InvalidArgumentError: If the bytes are not an image that TensorFlow can decode, or if it has more than
            `MAX_PIXELS` pixels; such an image is refused before it takes memory. A JPEG in one sequential scan counts with
            the size at which it is decoded.
    """
    return _with_short_errors(_decode_function(background), content)


def read_orientation(content: bytes | tf.Tensor) -> tf.Tensor:
    """The orientation in the Exif data of a file, which `prepare` and `decode` apply.

    Args:
        content: Scalar string tensor (or bytes) with a file.

    Returns:
        Int32 scalar, 1 to 8 as in the Exif standard: 1 where the image is stored upright, where the file says nothing, and
        where it is no image.
    """
    return _with_short_errors(_orientation_function(), content)


# Traced once per record: tracing takes as long as some hundred images, and a run starts many pipelines.
@functools.cache
def _prepare_function(preprocessing: Preprocessing) -> Callable:
    def allowed_factor(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        return downscale_factor(height, width, preprocessing)

    return _on_cpu(
        lambda content: resize(decoding.decode_rgb(content, preprocessing.background, allowed_factor), preprocessing)
    )


@functools.cache
def _decode_function(background: int) -> Callable:
    return _on_cpu(lambda content: decoding.decode_rgb(content, background))


@functools.cache
def _orientation_function() -> Callable:
    return _on_cpu(decoding.read_orientation)


def _on_cpu(function: Callable) -> Callable:
    """A TensorFlow function of a scalar string. Decoders run on the CPU, and copies to and from a GPU would cost more."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def of_content(content: tf.Tensor) -> tf.Tensor:
        with tf.device("CPU:0"):
            return function(content)

    return of_content


def _with_short_errors(function: Callable, content: bytes | tf.Tensor) -> tf.Tensor:
    """`function(content)`, with an error that says what is wrong with the file and not where in the graph it came up."""
    try:
        with tf.device("CPU:0"):
            return function(content)
    except tf.errors.InvalidArgumentError as error:
        line = error.message.split("\n\t [[")[0].splitlines()[-1]
        sentence = re.sub(r"^assertion failed: \[(.*?)\]", r"\1", line)
        raise tf.errors.InvalidArgumentError(None, None, sentence) from None
