"""From files to `tf.data`: read, decode, resize and batch, in parallel and in order."""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf

from keras_cnn import images
from pipelines.errors import InputError


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


def complete_batches(paths, preprocessing, batch_size: int):
    """Yield images `(batch, height, width, 3)` of files that were readable a moment ago; the last batch may be smaller.

    Raises:
        InputError: With the name of the first file that cannot be read any more.
    """
    expected = 0
    for positions, batch in decoded(paths, preprocessing).batch(batch_size).prefetch(tf.data.AUTOTUNE):
        missing = np.flatnonzero(positions.numpy() != np.arange(expected, expected + len(positions)))
        if len(missing):
            raise _gone(paths[expected + missing[0]])
        expected += len(positions)
        yield batch
    if expected != len(paths):
        raise _gone(paths[expected])


def _gone(path):
    return InputError(f"{path} was readable a moment ago and is not any more. Keep the data as it is while a job runs.")
