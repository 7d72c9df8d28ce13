"""Splitting a model in two."""

from __future__ import annotations

import keras

from keras_cnn.keras_internals import nodes_by_depth
from keras_cnn.surgery.graph import nodes_of, require_graph, rewrite


def split(model: keras.Model, after: str) -> tuple[keras.Model, keras.Model]:
    """Two models that together compute `model`: inputs -> the output of layer `after` -> outputs.

    Args:
        model: A functional or Sequential model in which every path from the inputs to the outputs passes through `after`.
        after: Name of a layer, or of a stage.

    Returns:
        The first and the second part, which share their layers with `model`.

    Raises:
        ValueError: If there is no such layer, if a path goes around it, or if its output is an output of the model.
    """
    graph, boundary = require_graph("split", model), output_of(model, after)
    if not can_split(model, after):
        raise ValueError(
            f"split: every path must pass through `after`, and not end there. Received: after={after!r}, which a path goes "
            "around or ends in."
        )
    start = keras.Input(batch_shape=boundary.shape, dtype=boundary.dtype)  # Keras' own way to cut fails at x + x
    rest = keras.Model(start, rewrite(graph, lambda *_: None, [start], at=[boundary]), name=f"{model.name}_rest")
    return keras.Model(graph.input, boundary, name=f"{model.name}_front"), rest


def can_split(model: keras.Model, after: str) -> bool:
    """Whether every path from the inputs to the outputs passes through layer `after`, and does not end there.

    Raises:
        ValueError: As `output_of`.
    """
    graph, boundary = require_graph("can_split", model), output_of(model, after)
    needed = {id(x) for x in graph.outputs}
    if id(boundary) in needed:
        return False
    for node in reversed(list(nodes_of(graph))):
        if any(id(x) in needed and x is not boundary for x in node.outputs):
            needed.update(id(x) for x in node.input_tensors)
    return not any(id(x) in needed and x is not boundary for x in graph.inputs)


def output_of(model: keras.Model, name: str) -> keras.KerasTensor:
    """The output of layer `name` within `model`.

    Unlike `layer.output`, which belongs to the first model that the layer was used in.

    Raises:
        ValueError: If `model` has no such layer, or uses it more than once.
    """
    graph, layer = require_graph("output_of", model), model.get_layer(name)
    nodes = [node for nodes in nodes_by_depth(graph).values() for node in nodes if node.operation is layer]
    if len(nodes) != 1:
        raise ValueError(
            f"output_of: the model must use layer {name!r} once. Received: a model that uses it {len(nodes)} times."
        )
    return nodes[0].output_tensors[0]
