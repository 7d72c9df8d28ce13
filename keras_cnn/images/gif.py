"""GIF (CompuServe, version 89a): the first frame, rewritten as a file with nothing else in it.

TensorFlow would decode all frames of an animation, and paint transparent pixels black.
"""

from __future__ import annotations

import tensorflow as tf

from keras_cnn.images import checks
from keras_cnn.images.compositing import place_on_canvas
from keras_cnn.images.file_bytes import not_inlined, read_bytes, read_numbers, to_little_endian

# How a block begins: an extension, the extension that may name a transparent colour, and an image.
EXTENSION, CONTROL, IMAGE = 0x21, 0xF921, 0x2C
MAX_EXTENSIONS = 256


@not_inlined
def decode(content: tf.Tensor, background: int) -> tuple[tf.Tensor, int]:
    """RGB `(height, width, 3)`, uint8, and orientation 1: the format has no orientations."""
    width, height, flags = read_numbers(content, 6, 3, tf.uint16)
    ends = _chain_ends(content)
    control, image = _find_blocks(content, 13 + _table_size(flags), ends)
    left, top, columns, rows, local_flags = read_numbers(content, image + 1, 5, tf.uint16)
    has_table = local_flags // 128 % 2 == 1
    table = read_bytes(
        content, tf.where(has_table, image + 10, 13), _table_size(tf.where(has_table, local_flags, flags))
    )
    pixels = image + 10 + _table_size(local_flags)
    end = _end_from(ends, pixels + 1)
    complete = (read_numbers(content, image, 1)[0] == IMAGE) & (end < tf.strings.length(content)) & (table != "")
    with tf.control_dependencies([checks.require(complete, "A GIF file must hold a complete image and its colours.")]):
        size, data = read_bytes(content, image + 5, 4), read_bytes(content, pixels, end + 1 - pixels)
    table = _opaque_table(table, _transparent_index(content, control), background)
    interlaced = to_little_endian(local_flags // 64 % 2 * 64, 1)
    # After the first size comes a table of 256 colours, before the second one a position: the frame fills the canvas.
    single = tf.strings.join([b"GIF89a", size, b"\xf7\0\0", table, b"\x2c\0\0\0\0", size, interlaced, data, b";"])
    single = checks.check_size(single, tf.maximum(rows, height), tf.maximum(columns, width))
    return place_on_canvas(tf.io.decode_gif(single)[0], top, left, height, width, background), 1


def _chain_ends(content: tf.Tensor) -> tf.Tensor:
    """For each position, taken as the start of a chain of sub-blocks, the position of the byte that ends the chain.

    A sub-block is its length, in one byte, and that many bytes; length 0 ends the chain. Each round doubles the number of
    sub-blocks that a jump passes, so the number of rounds is the logarithm of the file size, whatever the file contains.
    """
    lengths = tf.cast(tf.io.decode_raw(content, tf.uint8), tf.int32)
    total = tf.size(lengths)
    jumps = tf.minimum(tf.range(total) + lengths + tf.cast(lengths > 0, tf.int32), total)
    _, ends = tf.while_loop(
        lambda passed, jumps: passed < total,
        lambda passed, jumps: (2 * passed, tf.gather(jumps, jumps)),
        (1, tf.concat([jumps, [total]], 0)),
    )
    return ends


def _end_from(ends: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    return tf.gather(ends, tf.clip_by_value(position, 0, tf.size(ends) - 1))


def _find_blocks(content: tf.Tensor, start: tf.Tensor, ends: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Positions of the first control extension, 0 if there is none, and of the first block that is not an extension."""

    def block(control: tf.Tensor, position: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return control, position, read_numbers(content, position, 1, tf.uint16)[0]

    def step(control: tf.Tensor, position: tf.Tensor, mark: tf.Tensor) -> tuple[tf.Tensor, ...]:
        control = tf.where((mark == CONTROL) & (control == 0), position, control)
        return block(control, _end_from(ends, position + 2) + 1)

    control, position, _ = tf.while_loop(
        lambda control, position, mark: mark % 256 == EXTENSION,
        step,
        block(0, start),
        maximum_iterations=MAX_EXTENSIONS,
    )
    return control, position


def _table_size(flags: tf.Tensor) -> tf.Tensor:
    """Size in bytes of the colour table that the flags announce."""
    return flags // 128 % 2 * 3 * tf.bitwise.left_shift(2, flags % 8)


def _transparent_index(content: tf.Tensor, control: tf.Tensor) -> tf.Tensor:
    """The index of the transparent colour, 256 if there is none."""
    flags, _, _, transparent = read_numbers(content, control + 3, 4)
    return tf.where((control > 0) & (flags % 2 == 1), transparent, 256)


def _opaque_table(table: tf.Tensor, transparent: tf.Tensor, background: int) -> tf.Tensor:
    """256 colours: those of the table, and the background where the table ends or its colour is transparent."""
    colour = bytes([background] * 3)
    table = tf.strings.join([table, colour * 257])
    colours = [read_bytes(table, 0, 3 * transparent), colour, read_bytes(table, 3 * transparent + 3, 768)]
    return read_bytes(tf.strings.join(colours), 0, 768)
