"""Another head on the same network."""

from __future__ import annotations

import keras
import numpy as np
from keras import tree

from keras_cnn import arguments
from keras_cnn.surgery.graph import graph_of, nodes_of, remake, require_graph

HEADS = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
INDEPENDENT = ("Sigmoid", "HardSigmoid", "sigmoid", "hard_sigmoid")  # classes of keras.ops, and activations
EXCLUSIVE = ("Softmax", "LogSoftmax", "softmax", "log_softmax")


def swap_head(model: keras.Model, classes: int) -> keras.Model:
    """The same network for another number of classes.

    The last layer with a kernel gets new, random weights for `classes` outputs; everything before it is kept by identity,
    and what comes after it (softmax, say) is made once more. All names stay, and so does the order of the layers, so that
    files of weights still fit but for the head: `load_weights(path, skip_mismatch=True)`. In a frozen model the new head
    alone is trainable. Initialisers that hold a value for each of the old classes, such as the logarithm of their shares, are
    replaced by Keras' default.

    Args:
        model: A functional or Sequential model with one output, made by a Dense layer or a convolution and layers without
            weights after it; these may be hidden in nested models.
        classes: Number of outputs, at least 1.

    Raises:
        ValueError: If `classes` is no positive integer, or the output is made in another way; if one sigmoid is to become
            several, which could mean one label per image or any number, or a softmax is to have one class.

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
    head, *behind = _last_calls(model, graph)
    old = getattr(head.operation, _size(head.operation), head.outputs[0].shape[-1])
    _check_meaning([head, *behind], old, classes)
    if not model.trainable:  # it says so for all that is in it, which is in a model now that says nothing of the kind
        for layer in model.layers:
            layer.trainable = False
    layers = [_new_head(head.operation, classes), *(_for_classes(node.operation, old, classes) for node in behind)]
    if isinstance(model, keras.Sequential):  # stays one, since files of weights name layers by their class
        return keras.Sequential([*graph.inputs, *model.layers[: -len(layers)], *layers], name=model.name)
    tensor = head.input_tensors[0]
    for node, layer in zip([head, *behind], layers, strict=True):
        args, kwargs = node.arguments.fill_in({id(node.input_tensors[0]): tensor})
        tensor = layer(*args, **kwargs)
    return keras.Model(graph.input, tree.pack_sequence_as(graph.output, [tensor]), name=model.name)


def _last_calls(model, graph):
    """The call of the head, which may be that of a nested model, and those after it."""
    nodes = list(nodes_of(graph))
    makers = {id(x): node for node in nodes for x in node.outputs}
    calls, tensor = [], graph.outputs[0]
    while True:
        node = makers.get(id(tensor))
        layer = node.operation if node else None
        is_head = isinstance(layer, HEADS) or graph_of(layer) is not None
        single = node is not None and len(node.input_tensors) == 1 and sum(n.operation is layer for n in nodes) == 1
        if not single or not (is_head or not getattr(layer, "weights", ())):
            raise ValueError(
                "swap_head: the output must be made by a Dense layer or a convolution, with nothing but layers without "
                f"weights behind it. Received: model {model.name!r}, where {getattr(layer, 'name', 'the input')!r} comes "
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
    return remake(layer, trainable=True, **_initializers(layer, classes), **{_size(layer): classes})


def _initializers(head, classes):
    """Those that the config of the old head is wrong about: what it says of other classes, and what no config can say."""
    shapes = {"kernel": (*head.kernel.shape[:-1], classes), "bias": (classes,)}
    defaults, changed = {"kernel": "glorot_uniform", "bias": "zeros"}, {}
    for name, shape in shapes.items():
        initializer = getattr(head, f"{name}_initializer")
        if not _is_for(initializer, shape):
            changed[f"{name}_initializer"] = defaults[name]
        elif not type(initializer).__module__.startswith("keras."):
            changed[f"{name}_initializer"] = initializer
    return changed


def _is_for(initializer, shape):
    """Whether an initialiser gives weights of this shape, and not values that were meant for other classes."""
    if isinstance(initializer, keras.initializers.Constant):
        return np.ndim(initializer.value) == 0
    if type(initializer).__module__.startswith("keras."):
        return True
    try:
        return tuple(initializer(shape).shape) == shape
    except Exception:  # whatever the code of others does with a shape that it was not made for
        return False


def _check_meaning(nodes, old, classes):
    """Raises where the same activation for another number of classes would mean something else."""
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


def _size(head):
    return "units" if isinstance(head, keras.layers.Dense) else "filters"


def _for_classes(layer, old, classes):
    """A layer behind the head, for another number of classes; an operation of `keras.ops` does for any."""
    if isinstance(layer, keras.layers.Reshape):
        return remake(layer, target_shape=[classes if size == old else size for size in layer.target_shape])
    return remake(layer) if isinstance(layer, keras.layers.Layer) else layer
