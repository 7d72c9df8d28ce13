"""WebP (RFC 9649): stills, and the first frame of an animation, written anew as a still.

TensorFlow 2.21 decodes all frames, and where an animation has no alpha channel it writes four channels into room for
three, of which the process dies. So it never gets to see an animation.
"""

from __future__ import annotations

import tensorflow as tf

from keras_cnn.images import checks, orientation
from keras_cnn.images.compositing import on_canvas, to_rgb
from keras_cnn.images.file_bytes import little_endian, numbers, part
from keras_cnn.images.graphs import apart

LOSSLESS, EXTENDED, FRAME, EXIF = (int.from_bytes(name, "little") for name in (b"VP8L", b"VP8X", b"ANMF", b"EXIF"))
ANIMATION, ALPHA = 2, 16
MOST_CHUNKS = 4096


@apart
def decode(content, background: int):
    """RGB `(height, width, 3)`, uint8, and its orientation."""
    kind, _, flags = numbers(content, 12, 3, tf.int32)
    height, width = _size(content, kind)
    animated = (kind == EXTENDED) & (flags // ANIMATION % 2 == 1)
    frame = tf.cond(animated, lambda: _chunk(content, FRAME), lambda: "")
    left, top, columns, rows = tf.unstack(_threes(frame, 0, 4) * tf.cast(animated, tf.int32))
    still = tf.where(animated, _still(frame), content)
    checked = checks.limited(still, tf.maximum(rows + 1, height), tf.maximum(columns + 1, width))
    image = to_rgb(tf.io.decode_webp(checked)[0], background)
    image = on_canvas(image, 2 * top, 2 * left, height, width, background)
    return image, noted(content)


def noted(content):
    """The orientation in the Exif data, which come after all frames."""
    return orientation.read(_chunk(content, EXIF))


def _chunk(content, wanted):
    """The payload of the first chunk of a name, "" if there is none."""

    def chunk(position):
        return position, *numbers(content, position, 2, tf.int32)

    position, name, length = tf.while_loop(
        lambda position, name, length: (name != wanted) & (name != 0) & (length >= 0),
        lambda position, name, length: chunk(position + 8 + length + length % 2),
        chunk(tf.constant(12)),
        maximum_iterations=MOST_CHUNKS,
    )
    return part(content, position + 8, tf.where(name == wanted, length, 0))


def _size(content, kind):
    lossy, lossless = numbers(content, 26, 1, tf.int32)[0], numbers(content, 21, 1, tf.int32)[0]
    in_fourteen_bits = tf.where(kind == LOSSLESS, lossless // [1, 2**14] % 2**14 + 1, lossy // [1, 2**16] % 2**14)
    width, height = tf.unstack(tf.where(kind == EXTENDED, _threes(content, 24, 2) + 1, in_fourteen_bits))
    return height, width


def _threes(content, start, count):
    """Numbers of three bytes each, as an int32 vector."""
    values = tf.reshape(tf.stack(numbers(content, start, 3 * count)), (count, 3))
    return tf.reduce_sum(values * [1, 2**8, 2**16], 1)


def _still(frame):
    """A file of the frame alone. It is said to have an alpha channel, which is opaque if there is none."""
    size, image = part(frame, 6, 6), part(frame, 16, -1)
    chunks = tf.strings.join([b"WEBPVP8X", bytes([10, 0, 0, 0, ALPHA, 0, 0, 0]), size, image])
    return tf.strings.join([b"RIFF", little_endian(tf.strings.length(chunks), 4), chunks])
