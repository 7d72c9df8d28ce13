"""GIF (CompuServe, version 89a): the first frame, written anew as a file with nothing else in it.

So TensorFlow neither decodes all frames of an animation nor paints black what is transparent.
"""

from __future__ import annotations

import tensorflow as tf

from keras_cnn.images import checks
from keras_cnn.images.compositing import on_canvas
from keras_cnn.images.file_bytes import little_endian, numbers, part
from keras_cnn.images.graphs import apart

# What a block begins with: an extension, the one that may name a transparent colour, and an image.
EXTENSION, CONTROL, IMAGE = 0x21, 0xF921, 0x2C
MOST_EXTENSIONS = 256


@apart
def decode(content, background: int):
    """RGB `(height, width, 3)`, uint8, and its orientation: there is none."""
    width, height, flags = numbers(content, 6, 3, tf.uint16)
    ends = _ends(content)
    control, image = _blocks(content, 13 + _table_size(flags), ends)
    left, top, columns, rows, local_flags = numbers(content, image + 1, 5, tf.uint16)
    has_table = local_flags // 128 % 2 == 1
    table = part(content, tf.where(has_table, image + 10, 13), _table_size(tf.where(has_table, local_flags, flags)))
    pixels = image + 10 + _table_size(local_flags)
    end = _at(ends, pixels + 1)
    complete = (numbers(content, image, 1)[0] == IMAGE) & (end < tf.strings.length(content)) & (table != "")
    with tf.control_dependencies([checks.require(complete, "A GIF file must hold a complete image and its colours.")]):
        size, data = part(content, image + 5, 4), part(content, pixels, end + 1 - pixels)
    table = _opaque(table, _transparent(content, control), background)
    interlaced = little_endian(local_flags // 64 % 2 * 64, 1)
    # Behind the size: a table of 256 colours. In front of it: the frame fills the canvas.
    single = tf.strings.join([b"GIF89a", size, b"\xf7\0\0", table, b"\x2c\0\0\0\0", size, interlaced, data, b";"])
    single = checks.limited(single, tf.maximum(rows, height), tf.maximum(columns, width))
    return on_canvas(tf.io.decode_gif(single)[0], top, left, height, width, background), 1


def _ends(content):
    """For each position, taken as the start of a chain of sub-blocks, the position of the byte that ends it.

    A sub-block is its length, in one byte, and as many bytes; one of length 0 is the end. Each round doubles how many
    sub-blocks a jump passes, so the number of rounds is the logarithm of the size, whatever the file contains.
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


def _at(ends, position):
    return tf.gather(ends, tf.clip_by_value(position, 0, tf.size(ends) - 1))


def _blocks(content, start, ends):
    """Positions of the first control extension, 0 if there is none, and of the first block that is no extension."""

    def block(control, position):
        return control, position, numbers(content, position, 1, tf.uint16)[0]

    def step(control, position, mark):
        control = tf.where((mark == CONTROL) & (control == 0), position, control)
        return block(control, _at(ends, position + 2) + 1)

    control, position, _ = tf.while_loop(
        lambda control, position, mark: mark % 256 == EXTENSION,
        step,
        block(0, start),
        maximum_iterations=MOST_EXTENSIONS,
    )
    return control, position


def _table_size(flags):
    """Bytes of the colour table that the flags announce."""
    return flags // 128 % 2 * 3 * tf.bitwise.left_shift(2, flags % 8)


def _transparent(content, control):
    """The transparent one of 256 colours, 256 if there is none."""
    flags, _, _, transparent = numbers(content, control + 3, 4)
    return tf.where((control > 0) & (flags % 2 == 1), transparent, 256)


def _opaque(table, transparent, background):
    """256 colours: those of the table, and the background wherever it has none or a transparent one."""
    colour = bytes([background] * 3)
    table = tf.strings.join([table, colour * 257])
    colours = [part(table, 0, 3 * transparent), colour, part(table, 3 * transparent + 3, 768)]
    return part(tf.strings.join(colours), 0, 768)
