"""A model taken apart."""

from __future__ import annotations

import keras

from keras_cnn.surgery.graph import require_graph


def split(model: keras.Model, after: str) -> tuple[keras.Model, keras.Model]:
    """Two models that do the work of one: inputs -> the output of layer `after` -> outputs.

    Args:
        model: A functional or Sequential model in which every path from the inputs to the outputs passes through `after`.
        after: Name of a layer, or of a stage.

    Returns:
        The front and the rest, which share their layers with `model`.

    Raises:
        ValueError: If there is no such layer, or a path goes around it.
    """
    graph, boundary = require_graph("split", model), output_of(model, after)
    try:
        rest = keras.Model(boundary, graph.output, name=f"{model.name}_rest")
    except ValueError:  # Keras speaks of a path that is not connected, and of no layer
        raise ValueError(
            f"split: every path must pass through `after`. Received: after={after!r}, which a path goes around."
        ) from None
    return keras.Model(graph.input, boundary, name=f"{model.name}_front"), rest


def output_of(model: keras.Model, name: str):
    """The tensor that layer `name` gives within `model`.

    Unlike `layer.output`, which belongs to the first model that the layer was used in.

    Raises:
        ValueError: If `model` has no such layer, or uses it more than once.
    """
    graph, layer = require_graph("output_of", model), model.get_layer(name)
    nodes = [node for nodes in graph._nodes_by_depth.values() for node in nodes if node.operation is layer]
    if len(nodes) != 1:
        raise ValueError(
            f"output_of: the model must use layer {name!r} once. Received: a model that uses it {len(nodes)} times."
        )
    return nodes[0].output_tensors[0]
