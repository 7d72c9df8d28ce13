"""The orientation that cameras note beside the pixels (Exif 2.32, tag 0x0112), and the turn that it asks for."""

from __future__ import annotations

import tensorflow as tf

from keras_cnn.images.file_bytes import part
from keras_cnn.images.graphs import apart

TAG, SHORT = 0x0112, 3


@apart
def read(exif):
    """The orientation, 1 to 8, in Exif data from the TIFF header on; 1 if there is none or they are malformed."""
    # Words of two bytes, in the order that the header names: whatever matters here begins at an even position.
    size = tf.maximum(tf.strings.length(exif) // 2 * 2, 8)
    order = part(exif, 0, 2)
    big_endian = order == "MM"
    words = [tf.io.decode_raw(exif, tf.uint16, little, fixed_length=size) for little in (False, True)]
    words = tf.cast(tf.where(big_endian, *words), tf.int32)
    _, magic, first, second = tf.unstack(words[:4], 4)
    directory = tf.where(big_endian, second, first) // 2
    count = tf.reduce_sum(words[directory : directory + 1])
    # An entry is tag, type, count (two words) and value; a value of one word stands first in its two.
    entries = words[directory + 1 : directory + 1 + 6 * count]
    entries = tf.reshape(entries[: tf.size(entries) // 6 * 6], (-1, 6))
    tag, kind, _, _, value, _ = tf.unstack(entries, axis=1)
    valid = (
        ((order == "II") | big_endian) & (magic == 42) & (tag == TAG) & (kind == SHORT) & (value >= 1) & (value <= 8)
    )
    return tf.concat([tf.boolean_mask(value, valid), [1]], 0)[0]


def upright(image, orientation):
    """An image `(h, w, channels)` as it is meant to be seen; the orientations 5 to 8 swap height and width."""

    def turned():
        swapped = tf.cast(orientation > 4, tf.int32)
        image_or_transpose = tf.transpose(image, tf.stack([swapped, 1 - swapped, 2]))
        # Then 3, 4, 7 and 8 are upside down, and 2, 3, 6 and 7 mirrored left to right.
        mirrored = tf.stack([(orientation - 1) // 2 % 2, orientation // 2 % 2, 0])
        return tf.raw_ops.Reverse(tensor=image_or_transpose, dims=mirrored == 1)

    return tf.cond(orientation == 1, lambda: image, turned)
