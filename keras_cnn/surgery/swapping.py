"""Another head on the same network."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import tree

from keras_cnn import arguments
from keras_cnn.surgery.graph import clone_layer, graph_of, nodes_of, require_graph

HEADS = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
INDEPENDENT = ("Sigmoid", "HardSigmoid", "sigmoid", "hard_sigmoid")  # classes of keras.ops, and activations
EXCLUSIVE = ("Softmax", "LogSoftmax", "softmax", "log_softmax")


def swap_head(model: keras.Model, classes: int) -> keras.Model:
    """The same network for another number of classes.

    The last layer with a kernel gets new, random weights for `classes` outputs; the new model shares every layer before it,
    and rebuilds those after it (such as softmax). All names stay, and so does the order of the layers, so that
    weight files still fit all layers except the head: `load_weights(path, skip_mismatch=True)`. In a frozen model only the new
    head is trainable. Initializers that hold one value per old class, such as the logarithm of class frequencies, are
    replaced by Keras' default.

    Args:
        model: A functional or Sequential model with one output, from a Dense layer or a convolution and layers without
            weights after it; these may be in nested models.
        classes: Number of outputs, at least 1.

    Raises:
        ValueError: If `classes` is not a positive integer, or the output is made in another way; if one sigmoid would become
            several, which could mean one label per image or any number, or a softmax would have one class.

    Example:
        >>> inputs = keras.Input((8,))
        >>> model = keras.Model(inputs, keras.layers.Dense(3, "softmax")(keras.layers.Dense(4, name="body")(inputs)))
        >>> swap_head(model, 5).output_shape, swap_head(model, 5).get_layer("body") is model.get_layer("body")
        ((None, 5), True)
    """
    classes = arguments.integer("swap_head", "classes", classes)
    graph = require_graph("swap_head", model)
    if len(graph.outputs) != 1:
        raise ValueError(
            f"swap_head: the model must have one output. Received: {model.name!r}, which has {len(graph.outputs)}. Attach "
            "heads to `kc.cut(model, …)` instead."
        )
    head, *after = _last_calls(model, graph)
    old = getattr(head.operation, _size_argument(head.operation), head.outputs[0].shape[-1])
    _check_meaning([head, *after], old, classes)
    if not model.trainable:  # its layers are in the new model, which is trainable
        for layer in model.layers:
            layer.trainable = False
    layers: list[Any] = [_new_head(head.operation, classes)]
    layers += [_for_classes(node.operation, old, classes) for node in after]
    if isinstance(model, keras.Sequential):  # stays one, since weight files name layers by their class
        return keras.Sequential([*graph.inputs, *model.layers[: -len(layers)], *layers], name=model.name)
    tensor = head.input_tensors[0]
    for node, layer in zip([head, *after], layers, strict=True):
        args, kwargs = node.arguments.fill_in({id(node.input_tensors[0]): tensor})
        tensor = layer(*args, **kwargs)
    return keras.Model(graph.input, tree.pack_sequence_as(graph.output, [tensor]), name=model.name)


def _last_calls(model, graph):
    """The call of the head, which may be that of a nested model, and those after it."""
    nodes = list(nodes_of(graph))
    producers = {id(x): node for node in nodes for x in node.outputs}
    calls, tensor = [], graph.outputs[0]
    while True:
        node = producers.get(id(tensor))
        layer = node.operation if node else None
        is_head = isinstance(layer, HEADS) or graph_of(layer) is not None
        single = node is not None and len(node.input_tensors) == 1 and sum(n.operation is layer for n in nodes) == 1
        if not single or not (is_head or not getattr(layer, "weights", ())):
            raise ValueError(
                "swap_head: the output must come from a Dense layer or a convolution, with nothing but layers without "
                f"weights after it. Received: model {model.name!r}, where {getattr(layer, 'name', 'the input')!r} comes "
                "first. Cut the model before its head and attach a new one."
            )
        calls.insert(0, node)
        if is_head:
            return calls
        tensor = node.input_tensors[0]


def _new_head(layer, classes):
    if graph_of(layer) is not None:
        return swap_head(layer, classes)
    groups = getattr(layer, "groups", 1)
    if classes % groups:
        expected = f"a multiple of {groups}, the groups of the head {layer.name!r}"
        raise ValueError(arguments.message("swap_head", "classes", expected, classes))
    return clone_layer(layer, trainable=True, **_initializers(layer, classes), **{_size_argument(layer): classes})


def _initializers(head, classes):
    """Initializers that the old config gets wrong: those for the old number of classes, and those that no config can hold."""
    shapes = {"kernel": (*head.kernel.shape[:-1], classes), "bias": (classes,)}
    defaults, changed = {"kernel": "glorot_uniform", "bias": "zeros"}, {}
    for name, shape in shapes.items():
        initializer = getattr(head, f"{name}_initializer")
        if not _fits(initializer, shape):
            changed[f"{name}_initializer"] = defaults[name]
        elif not type(initializer).__module__.startswith("keras."):
            changed[f"{name}_initializer"] = initializer
    return changed


def _fits(initializer, shape):
    """Whether an initializer makes weights of this shape, rather than values meant for other classes."""
    if isinstance(initializer, keras.initializers.Constant):
        return np.ndim(initializer.value) == 0
    if type(initializer).__module__.startswith("keras."):
        return True
    try:
        return tuple(initializer(shape).shape) == shape
    except Exception:  # custom code may raise anything for an unexpected shape
        return False


def _check_meaning(nodes, old, classes):
    """Raise where the same activation would mean something else for another number of classes."""
    layers = [node.operation for node in nodes]
    kinds = {name for layer in layers for name in (type(layer).__name__, _activation(layer))}
    if old == 1 < classes and kinds & {*INDEPENDENT}:
        remedy = (
            f"Cut the model before {layers[0].name!r} with `kc.cut` and attach a Dense layer of {classes} units: with softmax "
            "for one label per image, with sigmoid for any number of labels."
        )
        expected = "1 for a model that ends in one sigmoid, the probability of one class against another"
        raise ValueError(arguments.message("swap_head", "classes", expected, classes, remedy))
    if classes == 1 < old and kinds & {*EXCLUSIVE}:
        expected = "at least 2 for a model that ends in softmax, which gives a single class the probability 1"
        raise ValueError(arguments.message("swap_head", "classes", expected, classes))


def _activation(layer):
    return getattr(getattr(layer, "activation", None), "__name__", None)


def _size_argument(head):
    return "units" if isinstance(head, keras.layers.Dense) else "filters"


def _for_classes(layer, old, classes):
    """A layer after the head, for another number of classes; an operation of `keras.ops` works for any."""
    if isinstance(layer, keras.layers.Reshape):
        return clone_layer(layer, target_shape=[classes if size == old else size for size in layer.target_shape])
    return clone_layer(layer) if isinstance(layer, keras.layers.Layer) else layer
