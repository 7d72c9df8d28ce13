"""From files to `tf.data`: read, decode, resize and batch, in parallel and in order."""

from __future__ import annotations

import os

import tensorflow as tf

from keras_cnn import images


def decoded(paths, preprocessing) -> tf.data.Dataset:
    """Elements `(position in paths, image)`, in order; a file that cannot be read is missing.

    Images are float32 `(height, width, 3)`, RGB 0..255, as `keras_cnn.images.prepare` gives them.
    """

    def prepare(position, path):
        return position, images.prepare(tf.io.read_file(path), preprocessing)

    positions = tf.range(len(paths), dtype=tf.int64)
    files = tf.data.Dataset.from_tensor_slices(
        (positions, tf.constant([os.fsencode(path) for path in paths], tf.string))
    )
    return files.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).ignore_errors()


def batches(paths, preprocessing, batch_size: int) -> tf.data.Dataset:
    """As `decoded`, in batches; the last one may be smaller."""
    return decoded(paths, preprocessing).batch(batch_size).prefetch(tf.data.AUTOTUNE)
