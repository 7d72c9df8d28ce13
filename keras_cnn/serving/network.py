"""The network as it is served: batch norms folded, weights constant, arithmetic in the wanted precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from keras_cnn import arguments, surgery
from keras_cnn.keras_internals import producer
from keras_cnn.serving import graph_rewriting
from keras_cnn.serving.served_outputs import is_multi_label, to_probabilities
from keras_cnn.surgery.graph import graph_of

# A graph is one protobuf message, which cannot exceed 2 GiB; a larger network keeps its variables.
MAX_CONSTANTS = 2**30  # bytes
POOLING = (
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
)
Tensors: TypeAlias = dict[str, tf.Tensor]


class Network(tf.Module):
    """A Keras model, prepared to be saved as part of a larger graph. The model itself is not changed.

    Attributes:
        run: A `tf.function`: images float32 `(batch, height, width, 3)` 0..255 -> dict of float32 tensors:
            `probabilities` `(batch, classes)`, and `features` `(batch, channels)` if a pooling layer
            comes before the head of the model.
        has_features: Whether `run` gives `features`.
        multi_label: Whether an image may have several labels: each probability is the sigmoid of its own logit.
        image_shape: `(height, width, 3)`, None where any size is possible.

    Args:
        model: From `classifier.require_classifier`.
        precision: One of `keras_cnn.serving.precisions.PRECISIONS`.
        temperature: The logits are divided by it.
        activation: "softmax" or "sigmoid" for a model that gives logits.
        binary: Whether its only output is the probability of the second of two classes.
    """

    def __init__(
        self,
        model: keras.Model,
        precision: str = "float32",
        temperature: float = 1.0,
        activation: str | None = None,
        binary: bool = False,
    ):
        super().__init__()
        self.image_shape = image_shape(model)
        self.kept_variables: list[tf.Variable] = []

        def finish(outputs: tf.Tensor) -> tf.Tensor:
            return to_probabilities(_float32(outputs), temperature, activation, binary)

        answer = self._freeze(model, precision, finish)

        spec = tf.TensorSpec((None, *self.image_shape), tf.float32, name="images")
        self.run = tf.function(lambda images: answer(as_input(model, images)), input_signature=[spec], autograph=False)
        outputs = self.run.get_concrete_function().structured_outputs
        self.has_features = "features" in outputs
        self.multi_label = is_multi_label(outputs["probabilities"])

    @property
    def probabilities(self) -> tf.Tensor:
        """The tensor of probabilities in the graph of `run`."""
        return self.run.get_concrete_function().structured_outputs["probabilities"]

    def _freeze(self, model: keras.Model, precision: str, finish: Callable) -> Callable[[tf.Tensor], Tensors]:
        """A function of the model's input that gives `probabilities` and perhaps `features`."""
        model = surgery.fold_batch_norm(model)
        body, pool, head = split_at_pooling(model)

        def whole(images: tf.Tensor) -> Tensors:
            return {"probabilities": finish(model(images, training=False))}

        def after_body(maps: tf.Tensor) -> Tensors:
            features = _float32(pool(maps, training=False))
            probabilities = finish(head(features, training=False))
            return {
                "features": tf.reshape(features, (-1, math.prod(features.shape[1:]))),
                "probabilities": probabilities,
            }

        size = sum(math.prod(weight.shape) * tf.as_dtype(weight.dtype).size for weight in model.weights)
        if size > MAX_CONSTANTS:
            if precision != "float32":
                expected = f"float32 for a network of more than {MAX_CONSTANTS / 2**30:g} GiB"
                raise ValueError(arguments.message("export", "precision", expected, precision))
            self.kept_variables = [variable.value for variable in model.weights]
            return whole
        if pool is None:
            return with_constants(whole, model.input_shape, precision)
        # The head stays in float32: it costs next to nothing, and rounded logits would show in every probability.
        extract = with_constants(
            lambda images: {"maps": _float32(body(images, training=False))}, model.input_shape, precision
        )
        classify = with_constants(after_body, pool.input_shape, "float32")
        return lambda images: classify(extract(images)["maps"])


def with_constants(function: Callable, shape: Sequence[int | None], precision: str) -> Callable[[tf.Tensor], Tensors]:
    """`function` of a float32 tensor with its variables turned into constants and its arithmetic into `precision`.

    Args:
        function: A function of one tensor that gives a dict of tensors.
        shape: The shape of the tensor, None where any size is possible.
        precision: As in `keras_cnn.export`.
    """
    inputs = tf.TensorSpec(shape, tf.float32, name="inputs")
    concrete = tf.function(function, autograph=False).get_concrete_function(inputs)
    frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False)
    names = sorted(concrete.structured_outputs)
    (fed,), fetched = frozen.inputs, [tensor.name for tensor in frozen.outputs]
    graph = graph_rewriting.rewrite(frozen.graph, [fed.name], fetched, precision)
    graph.node.remove(next(node for node in graph.node if node.name == fed.op.name))
    for node in graph.node:  # a function of another SavedModel may have the input as a control input, too
        node.input[:] = [name for name in node.input if name != f"^{fed.op.name}"]

    def run(inputs: tf.Tensor) -> Tensors:
        tensors = tf.graph_util.import_graph_def(graph, {fed.name: inputs}, fetched, name="")
        return dict(zip(names, tensors, strict=True))

    return run


def split_at_pooling(model: keras.Model) -> tuple:
    """The model before its last pooling layer, that layer, and the model after it; None three times without such a layer."""
    graph = graph_of(model)
    for layer in reversed(graph.layers):
        if isinstance(layer, POOLING):
            try:
                body, rest = surgery.split(graph, producer(layer.input).name)
                return body, *surgery.split(rest, layer.name)
            except ValueError:  # it is used twice, or a path goes around it
                break
    return None, None, None


def image_shape(model: keras.Model) -> tuple[int | None, ...]:
    """`(height, width, 3)` of the images that a model takes, in either data format; None where any size is possible."""
    channels, *sides = model.input_shape[1:]
    return (*sides, channels) if _is_channels_first(model) else model.input_shape[1:]


def as_input(model: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """Images `(batch, height, width, 3)` in the data format of `model`."""
    return tf.transpose(images, (0, 3, 1, 2)) if _is_channels_first(model) else images


def _is_channels_first(model: keras.Model) -> bool:
    return model.input_shape[1] == 3 and model.input_shape[-1] != 3


def _float32(tensor: tf.Tensor) -> tf.Tensor:
    return tf.cast(tensor, tf.float32)
