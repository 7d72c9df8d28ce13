"""Rewrites of functional models. Layers are shared, never copied: training a part trains the whole."""

from __future__ import annotations

import keras

from keras_cnn import arguments

CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


def split(model: keras.Model, after: str) -> tuple[keras.Model, keras.Model]:
    """Two models that do the work of one: inputs -> the output of layer `after` -> outputs.

    Args:
        model: A functional model in which every path from the inputs to the outputs passes through `after`.
        after: Name of a layer, or of a stage.

    Returns:
        The front and the rest, which share their layers with `model`.

    Raises:
        ValueError: If there is no such layer, or a path goes around it.
    """
    boundary = output_of(model, after)
    try:
        rest = keras.Model(boundary, model.output, name=f"{model.name}_rest")
    except ValueError:  # Keras speaks of a path that is not connected, and of no layer
        raise ValueError(
            f"split: every path must pass through `after`. Received: after={after!r}, which a path goes around."
        ) from None
    return keras.Model(model.input, boundary, name=f"{model.name}_front"), rest


def output_of(model: keras.Model, name: str):
    """The tensor that layer `name` gives within `model`.

    Unlike `layer.output`, which belongs to the first model that the layer was used in.

    Raises:
        ValueError: If `model` has no such layer, or uses it more than once.
    """
    layer = model.get_layer(name)
    nodes = [node for nodes in model._nodes_by_depth.values() for node in nodes if node.operation is layer]
    if len(nodes) != 1:
        raise ValueError(
            f"output_of: the model must use layer {name!r} once. Received: a model that uses it {len(nodes)} times."
        )
    return nodes[0].output_tensors[0]


def swap_head(model: keras.Model, classes: int) -> keras.Model:
    """The same network for another number of classes.

    The last layer with a kernel gets new, random weights for `classes` outputs; everything before it is kept by identity,
    and what comes after it (softmax, say) is made anew. All names stay, so that weights saved by name still load.

    Args:
        model: A functional or Sequential model with one output, made by a Dense layer or a convolution and layers without
            weights behind it; these may be hidden in a nested model.
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
    behind, tensor = [], model.output
    while True:
        layer, before = _made_by(model, tensor)
        if isinstance(layer, keras.Model):
            tensor = swap_head(layer, classes)(before)
            break
        if isinstance(layer, (keras.layers.Dense, *CONVOLUTIONS)):
            size = "units" if isinstance(layer, keras.layers.Dense) else "filters"
            tensor = type(layer).from_config({**layer.get_config(), size: classes})(before)
            break
        behind.append(layer)
        tensor = before
    for layer in reversed(behind):
        tensor = type(layer).from_config(layer.get_config())(tensor)
    return keras.Model(model.input, tensor, name=model.name)


def _made_by(model, tensor):
    """The layer that makes a tensor, and the one tensor it is made from."""
    history = getattr(tensor, "_keras_history", None)
    layer = getattr(history, "operation", None)
    inputs = layer._inbound_nodes[history.node_index].input_tensors if layer is not None else ()
    weightless = isinstance(layer, keras.layers.Layer) and not layer.weights
    if len(inputs) != 1 or not (weightless or isinstance(layer, (keras.Model, keras.layers.Dense, *CONVOLUTIONS))):
        raise ValueError(
            "swap_head: the output must be made by a Dense layer or a convolution, with nothing but layers without weights "
            f"behind it. Received: model {model.name!r}, where {getattr(layer, 'name', 'something else')!r} comes first. "
            "Cut the model before its head and attach a new one."
        )
    return layer, inputs[0]
