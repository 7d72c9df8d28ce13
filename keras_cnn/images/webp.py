"""WebP (RFC 9649): stills, and the first frame of an animation, rewritten as a still.

TensorFlow 2.21 decodes all frames. If an animation has no alpha channel, it writes four channels into memory for three, and
the process crashes. So it never gets an animation here.
"""

from __future__ import annotations

import tensorflow as tf

from keras_cnn.images import checks, orientation
from keras_cnn.images.compositing import place_on_canvas, to_rgb
from keras_cnn.images.file_bytes import not_inlined, read_bytes, read_numbers, to_little_endian

LOSSLESS, EXTENDED, FRAME, EXIF = (int.from_bytes(name, "little") for name in (b"VP8L", b"VP8X", b"ANMF", b"EXIF"))
ANIMATION, ALPHA = 2, 16
MAX_CHUNKS = 4096


@not_inlined
def decode(content: tf.Tensor, background: int) -> tuple[tf.Tensor, tf.Tensor]:
    """RGB `(height, width, 3)`, uint8, and its orientation."""
    kind, _, flags = read_numbers(content, 12, 3, tf.int32)
    height, width = _size(content, kind)
    animated = (kind == EXTENDED) & (flags // ANIMATION % 2 == 1)
    frame = tf.cond(animated, lambda: _read_chunk(content, FRAME), lambda: "")
    left, top, columns, rows = tf.unstack(_read_24_bits(frame, 0, 4) * tf.cast(animated, tf.int32))
    still = tf.where(animated, _make_still(frame), content)
    checked = checks.check_size(still, tf.maximum(rows + 1, height), tf.maximum(columns + 1, width))
    image = to_rgb(tf.io.decode_webp(checked)[0], background)
    image = place_on_canvas(image, 2 * top, 2 * left, height, width, background)
    return image, read_orientation(content)


def read_orientation(content: tf.Tensor) -> tf.Tensor:
    """The orientation in the Exif data, which come after all frames."""
    return orientation.from_exif(_read_chunk(content, EXIF))


def _read_chunk(content: tf.Tensor, wanted: int) -> tf.Tensor:
    """The payload of the first chunk with a name, "" if there is none."""

    def chunk(position: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return position, *read_numbers(content, position, 2, tf.int32)

    position, name, length = tf.while_loop(
        lambda position, name, length: (name != wanted) & (name != 0) & (length >= 0),
        lambda position, name, length: chunk(position + 8 + length + length % 2),
        chunk(tf.constant(12)),
        maximum_iterations=MAX_CHUNKS,
    )
    return read_bytes(content, position + 8, tf.where(name == wanted, length, 0))


def _size(content: tf.Tensor, kind: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width of the canvas."""
    lossy, lossless = read_numbers(content, 26, 1, tf.int32)[0], read_numbers(content, 21, 1, tf.int32)[0]
    in_fourteen_bits = tf.where(kind == LOSSLESS, lossless // [1, 2**14] % 2**14 + 1, lossy // [1, 2**16] % 2**14)
    width, height = tf.unstack(tf.where(kind == EXTENDED, _read_24_bits(content, 24, 2) + 1, in_fourteen_bits))
    return height, width


def _read_24_bits(content: tf.Tensor, start: int, count: int) -> tf.Tensor:
    """Numbers of three bytes each, as an int32 vector."""
    values = tf.reshape(tf.stack(read_numbers(content, start, 3 * count)), (count, 3))
    return tf.reduce_sum(values * [1, 2**8, 2**16], 1)


def _make_still(frame: tf.Tensor) -> tf.Tensor:
    """A file of one frame. Its header announces an alpha channel, which the decoder makes opaque if there is none."""
    size, image = read_bytes(frame, 6, 6), read_bytes(frame, 16, -1)
    chunks = tf.strings.join([b"WEBPVP8X", bytes([10, 0, 0, 0, ALPHA, 0, 0, 0]), size, image])
    return tf.strings.join([b"RIFF", to_little_endian(tf.strings.length(chunks), 4), chunks])
