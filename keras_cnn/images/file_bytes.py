"""Numbers inside the bytes of a file, in TensorFlow operations. Outside of the file there is nothing, or zeros."""

from __future__ import annotations

import tensorflow as tf


def part(content, start, length):
    """The bytes from `start` on; fewer than `length` at the end of the file, all up to there if it is negative."""
    return tf.strings.substr(content, tf.clip_by_value(start, 0, tf.strings.length(content)), length)


def numbers(content, start, count: int, dtype=tf.uint8, big_endian=False):
    """`count` numbers from byte `start` on, as int32 scalars."""
    size = count * dtype.size
    values = tf.io.decode_raw(part(content, start, size), dtype, little_endian=not big_endian, fixed_length=size)
    return tf.unstack(tf.cast(values, tf.int32), count)


def little_endian(value, size: int):
    """An int32 as a string of `size` bytes."""
    every_byte = tf.constant([bytes([byte]) for byte in range(256)])
    places = tf.constant([256**place for place in range(size)])
    return tf.strings.reduce_join(tf.gather(every_byte, value // places % 256))
