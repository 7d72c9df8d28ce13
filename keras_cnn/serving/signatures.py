"""The functions that TF Serving runs: images in, labels and probabilities out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import tensorflow as tf

from keras_cnn import images
from keras_cnn.autograph import without_autograph
from keras_cnn.preprocessing import Preprocessing
from keras_cnn.serving.network import Network
from keras_cnn.serving.server_files import BATCH_SIZES

TOP_LABELS = 5
Tensors: TypeAlias = dict[str, tf.Tensor]


def save(network: Network, labels: Sequence[str], preprocessing: Preprocessing, path: Path) -> None:
    """Write a SavedModel with all signatures.

    Args:
        network: What computes the probabilities.
        labels: The names of the classes.
        preprocessing: How an image file becomes the input.
        path: A folder that does not exist yet.
    """
    module = tf.Module()
    module.network = network
    functions = _functions(network, labels, preprocessing)
    tf.saved_model.save(module, str(path), signatures=functions)


def traced(spec: tf.TensorSpec, **options: Any) -> Callable:
    """`tf.function` for one input; without AutoGraph, whose rewriting of the Python code takes seconds and changes nothing."""
    return tf.function(input_signature=[spec], autograph=False, **options)


def _functions(network: Network, labels: Sequence[str], preprocessing: Preprocessing) -> dict[str, Callable]:
    """The signatures by name."""
    names = tf.constant(list(labels))
    pixels = tf.TensorSpec((None, *network.image_shape), tf.uint8, name="images")

    @traced(tf.TensorSpec([None], tf.string, name="image_bytes"))
    def serving_default(image_bytes: tf.Tensor) -> Tensors:
        inputs, readable = prepare_batch(image_bytes, preprocessing)
        probabilities = network.run(inputs)["probabilities"][: tf.size(readable)]
        return _answer(tf.where(readable[:, None], probabilities, 0.0), names, readable[:, None])

    @traced(pixels)
    def predict_images(images: tf.Tensor) -> Tensors:
        return _answer(_run(network, images)["probabilities"], names)

    @traced(pixels)
    def features(images: tf.Tensor) -> Tensors:
        return {"features": _run(network, images)["features"]}

    @traced(pixels, jit_compile=True)
    def compiled(images: tf.Tensor) -> tf.Tensor:
        return network.run(tf.cast(images, tf.float32))["probabilities"]

    @traced(pixels)
    def serving_xla(images: tf.Tensor) -> Tensors:
        count = tf.shape(images)[0]
        probabilities = compiled(_pad_batch(images, _padded_size(count) - count))
        # The probabilities come from the GPU once; a kernel there for each little step would cost more.
        with tf.device("CPU:0"):
            return _answer(probabilities[:count], names)

    functions = {"serving_default": serving_default, "predict_images": predict_images, "serving_xla": serving_xla}
    return functions | ({"features": features} if network.has_features else {})


def prepare_batch(image_bytes: tf.Tensor, preprocessing: Preprocessing) -> tuple[tf.Tensor, tf.Tensor]:
    """`keras_cnn.images.prepare` for each file of a batch, in parallel.

    Returns:
        Images `[batch, height, width, 3]`, zeros for a file that is not an image, and a boolean `[batch]`: whether it is one.
        For an empty batch there is one image, since TensorFlow's convolutions do not take fewer.
    """
    count = tf.size(image_bytes, out_type=tf.int64)
    files = tf.data.Dataset.from_tensor_slices((tf.range(count), image_bytes))

    @without_autograph
    def prepare(index: tf.Tensor, content: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return index, images.prepare(content, preprocessing)

    prepared = files.map(prepare, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    # One image more than the batch, so that there is something to stack when no file is an image.
    nothing = tf.data.Dataset.from_tensors((count, tf.zeros((*preprocessing.size, 3))))
    indices, pixels = prepared.concatenate(nothing).batch(count + 1).get_single_element()
    shape = tf.concat([[count + 1], tf.shape(pixels, tf.int64)[1:]], 0)
    inputs = tf.scatter_nd(indices[:, None], pixels, shape)[: tf.maximum(count, 1)]
    readable = tf.scatter_nd(indices[:, None], tf.ones_like(indices), [count + 1])[:count] > 0
    return tf.ensure_shape(inputs, (None, *preprocessing.size, 3)), readable


def _answer(all_probabilities: tf.Tensor, names: tf.Tensor, readable: tf.Tensor | bool = True) -> Tensors:
    """The best labels with their probabilities, and the probabilities of all classes; the label is "" where unreadable."""
    probabilities, order = tf.math.top_k(all_probabilities, min(TOP_LABELS, names.shape[0]))
    return {
        "labels": tf.where(readable, tf.gather(names, order), ""),
        "probabilities": probabilities,
        "all_probabilities": all_probabilities,
    }


def _run(network: Network, images: tf.Tensor) -> Tensors:
    """What the network gives for uint8 images; for an empty batch, it computes one black image and drops it."""
    count = tf.shape(images)[0]
    # Padded before the cast: TensorFlow 2.21 on a CPU loses the padding of an empty float batch before a convolution.
    answer = network.run(tf.cast(_pad_batch(images, tf.maximum(count, 1) - count), tf.float32))
    return {name: tensor[:count] for name, tensor in answer.items()}


def _pad_batch(images: tf.Tensor, padding: tf.Tensor) -> tf.Tensor:
    return tf.pad(images, [[0, padding], [0, 0], [0, 0], [0, 0]])


def _padded_size(count: tf.Tensor) -> tf.Tensor:
    """The smallest of `BATCH_SIZES` that holds `count` images; above the largest, multiples of it plus one for the rest."""
    # A table and integers, which stay on the host: the padding must not wait for the GPU.
    table = tf.constant([0, *(min(size for size in BATCH_SIZES if size >= rest) for rest in range(1, BATCH_SIZES[-1]))])
    rest = count % BATCH_SIZES[-1]
    return tf.maximum(count - rest + tf.gather(table, rest), BATCH_SIZES[0])
