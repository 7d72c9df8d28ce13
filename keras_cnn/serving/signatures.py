"""The graph that TF Serving runs: image files in, labels and probabilities out."""

from __future__ import annotations

import keras
import tensorflow as tf

from keras_cnn import images
from keras_cnn.preprocessing import Preprocessing

LABELS_IN_ANSWER = 5


def image_classifier(
    model: keras.Model, labels: tf.saved_model.Asset, names, preprocessing: Preprocessing
) -> tf.Module:
    """A module for `tf.saved_model.save`: its function `classify_bytes` is the default signature of `export`."""
    names = list(names)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def classify_bytes(image_bytes):
        inputs, readable = prepare_batch(image_bytes, preprocessing)
        # An empty batch still runs one empty image through the network: TensorFlow's convolutions do not take none.
        scores = model(
            tf.pad(inputs, [[0, tf.cast(tf.size(readable) == 0, tf.int32)], [0, 0], [0, 0], [0, 0]]), training=False
        )
        scores = tf.cast(scores, tf.float32)[: tf.size(readable)]
        scores = tf.where(readable[:, None], scores, 0.0)
        probabilities, order = tf.math.top_k(scores, min(LABELS_IN_ANSWER, len(names)))
        labels = tf.where(readable[:, None], tf.gather(tf.constant(names), order), "")
        return {"labels": labels, "probabilities": probabilities, "scores": scores}

    module = tf.Module()
    # The variables alone: with the Keras model as an attribute, every weight would be saved twice.
    module.variables_of_model = [variable.value for variable in model.weights]
    module.labels = labels
    module.classify_bytes = classify_bytes
    return module


def prepare_batch(image_bytes, preprocessing: Preprocessing):
    """`keras_cnn.images.prepare` for each file of a batch, in parallel, with a mark for those that are no images.

    Returns:
        Images `[batch, height, width, 3]` (zeros where unreadable) and a boolean `[batch]`.
    """
    count = tf.size(image_bytes, out_type=tf.int64)
    files = tf.data.Dataset.from_tensor_slices((tf.range(count), image_bytes))
    prepared = files.map(
        lambda row, content: (row, images.prepare(content, preprocessing)), num_parallel_calls=tf.data.AUTOTUNE
    ).ignore_errors()
    # One row more than the batch, so that there is something to stack when no file is an image.
    nothing = tf.data.Dataset.from_tensors((count, tf.zeros((*preprocessing.size, 3))))
    rows, pixels = prepared.concatenate(nothing).batch(count + 1).get_single_element()
    shape = tf.concat([[count + 1], tf.shape(pixels, tf.int64)[1:]], 0)
    inputs = tf.scatter_nd(rows[:, None], pixels, shape)[:count]
    readable = tf.scatter_nd(rows[:, None], tf.ones_like(rows), [count + 1])[:count] > 0
    return tf.ensure_shape(inputs, (None, *preprocessing.size, 3)), readable
