"""A model taken apart."""

from __future__ import annotations

import keras

from keras_cnn.surgery.graph import nodes_of, require_graph, rewrite


def split(model: keras.Model, after: str) -> tuple[keras.Model, keras.Model]:
    """Two models that do the work of one: inputs -> the output of layer `after` -> outputs.

    Args:
        model: A functional or Sequential model in which every path from the inputs to the outputs passes through `after`.
        after: Name of a layer, or of a stage.

    Returns:
        The front and the rest, which share their layers with `model`.

    Raises:
        ValueError: If there is no such layer, if a path goes around it, or if an output lies right behind it.
    """
    graph, boundary = require_graph("split", model), output_of(model, after)
    if not divides(model, after):
        raise ValueError(
            f"split: every path must pass through `after`, and on from there. Received: after={after!r}, which a path goes "
            "around or ends in."
        )
    cut = keras.Input(batch_shape=boundary.shape, dtype=boundary.dtype)  # Keras' own way to cut fails at x + x
    rest = keras.Model(cut, rewrite(graph, lambda *_: None, [cut], at=[boundary]), name=f"{model.name}_rest")
    return keras.Model(graph.input, boundary, name=f"{model.name}_front"), rest


def divides(model: keras.Model, name: str) -> bool:
    """Whether every path from the inputs to the outputs passes through layer `name`, and on: so `split` can split there.

    Raises:
        ValueError: As `output_of`.
    """
    graph, boundary = require_graph("divides", model), output_of(model, name)
    needed = {id(x) for x in graph.outputs}
    if id(boundary) in needed:
        return False
    for node in reversed(list(nodes_of(graph))):
        if any(id(x) in needed and x is not boundary for x in node.outputs):
            needed.update(id(x) for x in node.input_tensors)
    return not any(id(x) in needed and x is not boundary for x in graph.inputs)


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
