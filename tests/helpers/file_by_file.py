"""Image files decoded by one TensorFlow function, instead of a `tf.data` pipeline: to start one takes a second."""

import functools
import os

import numpy as np
import tensorflow as tf

from keras_cnn import images


def decode_files(paths, preprocessing, dtype, extra):
    """What `pipelines.datasets.image_files.decode_files` gives; at least one file must be readable."""
    decode, found = _decoder(preprocessing, dtype, extra), []
    for index, path in enumerate(paths):
        try:
            found.append((np.int64(index), *decode(os.fsencode(path))))
        except tf.errors.OpError:
            continue
    return tf.data.Dataset.from_tensor_slices(tuple(map(np.stack, zip(*found, strict=True))))


@functools.cache
def _decoder(preprocessing, dtype, extra):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def decode(path):
        content = tf.io.read_file(path)
        image = images.prepare(content, preprocessing)
        return tf.cast(image + 0.5, dtype), *extra(content, image)

    return decode
