"""Tools of the decoders: numbers inside the bytes of a file, and functions that stay whole, in TensorFlow operations.

Reading outside of the file gives no bytes, or zeros.
"""

from __future__ import annotations

import functools

import tensorflow as tf

# A function that stays one operation in the graph that calls it. Without this, branches dissolve into that graph: each image
# would take time for the operations of all other formats, and each pipeline would take time to prepare them.
not_inlined = functools.partial(tf.function, autograph=False, experimental_attributes={"_noinline": True})


def read_bytes(content: tf.Tensor, start: tf.Tensor | int, length: tf.Tensor | int) -> tf.Tensor:
    """`length` bytes from byte `start` on; fewer at the end of the file; all up to the end if `length` is negative."""
    return tf.strings.substr(content, tf.clip_by_value(start, 0, tf.strings.length(content)), length)


def read_numbers(
    content: tf.Tensor, start: tf.Tensor | int, count: int, dtype: tf.DType = tf.uint8, big_endian: bool = False
) -> list[tf.Tensor]:
    """`count` numbers from byte `start` on, as int32 scalars."""
    size = count * dtype.size
    values = tf.io.decode_raw(read_bytes(content, start, size), dtype, little_endian=not big_endian, fixed_length=size)
    return tf.unstack(tf.cast(values, tf.int32), count)


def to_little_endian(value: tf.Tensor, size: int) -> tf.Tensor:
    """An int32 as a string of `size` bytes, the lowest first."""
    every_byte = tf.constant([bytes([byte]) for byte in range(256)])
    places = tf.constant([256**place for place in range(size)])
    return tf.strings.reduce_join(tf.gather(every_byte, value // places % 256))
