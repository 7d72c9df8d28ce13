"""From the bytes of an image file to the input of a network, in TensorFlow operations only.

Training, prediction and the exported graph all call `prepare`, so what is served is what was learned.
"""

from __future__ import annotations

import functools
import re

import tensorflow as tf

from keras_cnn.images.checks import MAX_PIXELS
from keras_cnn.images.decoding import SUFFIXES, upright_rgb
from keras_cnn.images.resizing import resize, shrinkage
from keras_cnn.preprocessing import Preprocessing

__all__ = ["MAX_PIXELS", "SUFFIXES", "decode", "prepare", "resize"]


def prepare(content, preprocessing: Preprocessing):
    """Decode one image file, upright, and bring it to the size that the network sees.

    A JPEG that is larger by two or more is decoded at 1/2, 1/4 or 1/8 of its size, which takes less time.

    Args:
        content: Scalar string tensor (or bytes) with a JPEG, PNG, GIF, BMP or WebP file.
        preprocessing: `keras_cnn.Preprocessing`.

    Returns:
        Float32 tensor `(height, width, 3)`, RGB from 0 to 255.

    Raises:
        tf.errors.InvalidArgumentError: As `decode`.
    """
    return _concise(_prepare(preprocessing), content)


def decode(content, background: int = 255):
    """Decode one image file at its own size: its first frame, upright, gray as RGB, transparency over `background`.

    Args:
        content: Scalar string tensor (or bytes) with a JPEG, PNG, GIF, BMP or WebP file; its first bytes tell which. The
            orientation that Exif data ask for is applied, and ignored where they are malformed.
        background: 0 (black) to 255 (white).

    Returns:
        Uint8 tensor `(height, width, 3)`, RGB.

    Raises:
        tf.errors.InvalidArgumentError: If the bytes are not an image that TensorFlow can decode, or if it has more than
            `MAX_PIXELS` pixels; then it is refused before it takes memory. A JPEG in one sequential scan counts as large
            as it is decoded.
    """
    return _concise(_decode(background), content)


# Traced once for each record: tracing takes as long as some hundred images, and a job starts many pipelines.
@functools.cache
def _prepare(preprocessing):
    def wanted(height, width):
        return shrinkage(height, width, preprocessing)

    return _on_cpu(lambda content: resize(upright_rgb(content, preprocessing.background, wanted), preprocessing))


@functools.cache
def _decode(background):
    return _on_cpu(lambda content: upright_rgb(content, background))


def _on_cpu(function):
    """A TensorFlow function of a scalar string. Decoders run on the CPU, and copies to and from a GPU would cost more."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def of_content(content):
        with tf.device("CPU:0"):
            return function(content)

    return of_content


def _concise(function, content):
    """`function(content)`, with an error that says what is wrong with the file and not where in the graph it came up."""
    try:
        with tf.device("CPU:0"):
            return function(content)
    except tf.errors.InvalidArgumentError as error:
        line = error.message.split("\n\t [[")[0].splitlines()[-1]
        sentence = re.sub(r"^assertion failed: \[(.*?)\]", r"\1", line)
        raise tf.errors.InvalidArgumentError(None, None, sentence) from None
