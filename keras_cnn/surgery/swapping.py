"""Another head on the same network."""

from __future__ import annotations

import keras
from keras import tree

from keras_cnn import arguments
from keras_cnn.surgery.graph import graph_of, nodes_of, remake, require_graph

HEADS = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


def swap_head(model: keras.Model, classes: int) -> keras.Model:
    """The same network for another number of classes.

    The last layer with a kernel gets new, random weights for `classes` outputs; everything before it is kept by identity,
    and what comes after it (softmax, say) is made anew. All names stay, and so does the order of the layers, so that files
    of weights still fit but for the head: `load_weights(path, skip_mismatch=True)`.

    Args:
        model: A functional or Sequential model with one output, made by a Dense layer or a convolution and layers without
            weights behind it; these may be hidden in nested models.
        classes: Number of outputs, at least 1.

    Raises:
        ValueError: If `classes` is no positive integer, or the output is made in another way.

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
    layers = [_new_head(head.operation, classes), *(_for_classes(node.operation, old, classes) for node in behind)]
    if isinstance(model, keras.Sequential):  # stays one, since files of weights name layers by their class
        return keras.Sequential([*graph.inputs, *model.layers[: -len(layers)], *layers], name=model.name)
    tensor = head.input_tensors[0]
    for node, layer in zip([head, *behind], layers, strict=True):
        args, kwargs = node.arguments.fill_in({id(node.input_tensors[0]): tensor})
        tensor = layer(*args, **kwargs)
    return keras.Model(graph.input, tree.pack_sequence_as(graph.output, [tensor]), name=model.name)


def _last_calls(model, graph):
    """The call of the head, which may be that of a nested model, and those behind it."""
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
    return remake(layer, **{_size(layer): classes})


def _size(head):
    return "units" if isinstance(head, keras.layers.Dense) else "filters"


def _for_classes(layer, old, classes):
    """A layer behind the head, for another number of classes; an operation of `keras.ops` does for any."""
    if isinstance(layer, keras.layers.Reshape):
        return remake(layer, target_shape=[classes if size == old else size for size in layer.target_shape])
    return remake(layer) if isinstance(layer, keras.layers.Layer) else layer
