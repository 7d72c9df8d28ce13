"""One image file, of any format in `keras_cnn.images.formats`, as an RGB image with its orientation applied."""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from keras_cnn.images import bmp, gif, jpeg, orientation, png, webp
from keras_cnn.images.checks import require
from keras_cnn.images.file_bytes import read_numbers
from keras_cnn.images.formats import FORMATS, ImageFormat

DECODERS = {"JPEG": jpeg, "PNG": png, "GIF": gif, "BMP": bmp, "WebP": webp}
NAMES = [each.name for each in FORMATS]


def decode_rgb(content: tf.Tensor, background: int, downscale_factor: Callable | None = None) -> tf.Tensor:
    """`images.decode`, with a JPEG smaller by the power of two that `downscale_factor(height, width)` allows.

    `downscale_factor` gets height and width in the orientation in which the image is seen.
    """
    decoders = {name: functools.partial(decoder.decode, content, background) for name, decoder in DECODERS.items()}
    decoders["JPEG"] = functools.partial(jpeg.decode, content, downscale_factor)
    image, found = tf.switch_case(_format_index(content), [*(decoders[name] for name in NAMES), _refuse])
    return orientation.apply_orientation(tf.ensure_shape(image, (None, None, 3)), found)


def read_orientation(content: tf.Tensor) -> tf.Tensor:
    """The orientation of a file, 1 to 8, that `decode_rgb` applies, an int32 scalar; 1 where the file has none."""
    none = functools.partial(tf.constant, 1)
    readers = {name: functools.partial(DECODERS[name].read_orientation, content) for name in ("JPEG", "PNG", "WebP")}
    return tf.switch_case(_format_index(content), [*(readers.get(name, none) for name in NAMES), none])


def _format_index(content: tf.Tensor) -> tf.Tensor:
    """The index of the file's format in `FORMATS`; their number if it has none of them."""
    words = read_numbers(content, 0, 3, tf.int32)
    matches = tf.stack([*(_matches(words, each) for each in FORMATS), True])
    return tf.argmax(tf.cast(matches, tf.int32), output_type=tf.int32)


def _matches(words: list[tf.Tensor], image_format: ImageFormat) -> tf.Tensor:
    """`ImageFormat.matches` of the first words of a file, of four bytes each, little-endian."""
    found = True
    for position, expected in image_format.signature:
        word, whole = words[position // 4], len(expected) == 4
        word = word if whole else word % 2 ** (8 * len(expected))
        found = (word == int.from_bytes(expected, "little", signed=whole)) & found
    return found


def _refuse() -> tuple[tf.Tensor, int]:
    sentence = f"A file must begin as a {', '.join(NAMES[:-1])} or {NAMES[-1]} file does."
    with tf.control_dependencies([require(False, sentence)]):
        return tf.zeros((0, 0, 3), tf.uint8), 1
