"""Which models can be served: those that take RGB images and give one number per class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import keras
from keras import tree

from keras_cnn.keras_internals import dtype_policies, sublayers
from keras_cnn.surgery.graph import require_graph, rewrite

OTHER_FLOATS = {"bfloat16", "float16", "float64"}


def require_classifier(model: keras.Model) -> keras.Model:
    """`model` as a model of one tensor that gives one tensor, if its shapes are those of an image classifier.

    A list or dict with a single input or output is unpacked.

    Raises:
        TypeError, ValueError: If they are not, with what to do about it.
    """
    graph = require_graph("export", model)
    remedy = _remedy(graph.inputs, graph.outputs)
    if remedy:
        raise ValueError(
            "export: `model` must have one input of RGB images (batch, height, width, 3) and one output (batch, classes). "
            f"Received: {_format_shapes(graph.inputs)} -> {_format_shapes(graph.outputs)}. {remedy}"
        )
    if isinstance(graph.output, keras.KerasTensor):
        return model
    return keras.Model(graph.inputs[0], graph.outputs[0], name=model.name)


def _remedy(inputs: Sequence, outputs: Sequence) -> str | None:
    """What to do about a model with other shapes; None if there is nothing to do."""
    return _remedy_for_inputs(inputs) or _remedy_for_outputs(outputs)


def _remedy_for_inputs(inputs: Sequence) -> str | None:
    if len(inputs) > 1:
        return "Export a model of the images alone, which computes its other inputs itself."
    shape = inputs[0].shape
    if len(shape) != 4:
        return "Let it begin with keras.Input((height, width, 3))."
    if shape[0] is not None:
        return "Leave the batch free: keras.Input(shape) instead of batch_shape or batch_size."
    channels = shape[1] if shape[-1] != 3 else 3  # channels_first
    if channels == 3:
        return None
    if shape[-1] == 1:
        return "keras_cnn.adapt_input_channels(model, 3) gives the same network for RGB images."
    return (
        "Image files are served as RGB. Train it on 3 channels, starting from keras_cnn.adapt_input_channels(model, 3)."
    )


def _remedy_for_outputs(outputs: Sequence) -> str | None:
    if len(outputs) > 1:
        return "Export a model of one of them: keras.Model(model.inputs, model.outputs[0])."
    shape = outputs[0].shape
    if len(shape) == 4:
        return "Let it end in a classifier of whole images, such as keras_cnn.heads.classification(classes)."
    if len(shape) != 2 or shape[-1] is None:
        return "Let it end in keras.layers.Dense(classes)."
    return None


def _format_shapes(tensors: Sequence) -> str:
    return " and ".join(str(tuple(tensor.shape)) for tensor in tensors)


@contextmanager
def in_float32(model: keras.Model) -> Iterator[keras.Model]:
    """A network with the layers of `model` that computes in float32 during the `with` block, whatever its dtype policy.

    A policy of mixed precision is meant for training. A served network computes in the precision of the export, with the
    weights as they are.

    Args:
        model: From `require_classifier`. Its layers have their own policies back at the end of the block.
    """
    layers = [layer for layer in sublayers(model) if _computes_in_another_float(layer)]
    with dtype_policies(layers, "float32"):
        yield _call_again(model) if layers else model


def _computes_in_another_float(layer: keras.layers.Layer) -> bool:
    policy = layer.dtype_policy
    return policy.quantization_mode is None and layer.compute_dtype in OTHER_FLOATS


def _call_again(model: keras.Model) -> keras.Model:
    """The same layers, called again to record the types of their outputs as they are now: Keras casts inputs to these."""
    graph = require_graph("export", model)
    (old,) = graph.inputs
    new = keras.Input(batch_shape=old.shape, dtype="float32" if old.dtype in OTHER_FLOATS else old.dtype)
    outputs = rewrite(graph, lambda node, args, kwargs: node.operation(*args, **kwargs), [new])
    return keras.Model(new, tree.flatten(outputs)[0], name=model.name)
