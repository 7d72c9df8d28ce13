"""Intermediate outputs."""

from __future__ import annotations

import keras
from keras import tree

from keras_cnn.surgery.graph import require_graph
from keras_cnn.surgery.layer_paths import find
from keras_cnn.surgery.nesting import laid_open, resolve_names


def cut(model: keras.Model, layers) -> keras.Model:
    """A model that gives the outputs of some layers, wherever they lie.

    Args:
        model: A functional or Sequential model.
        layers: Name of a layer, or a list of names. A layer within a nested model is "backbone/conv1", or "conv1" if no
            other has that name; a nested model is named like a layer.

    Returns:
        A new model of the same name, with the inputs of `model` and its layers by identity; nested models are laid open,
        as by `unnest`. One name gives one output, a list of names a list; a layer with several outputs a list of them.

    Raises:
        ValueError: If there is no such layer, if several have the name, or if the model calls it several times.

    Example:
        >>> backbone = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="a")], name="backbone")
        >>> inputs = keras.Input((8,))
        >>> model = keras.Model(inputs, keras.layers.Dense(2, name="b")(backbone(inputs)))
        >>> cut(model, "a").output_shape, cut(model, ["backbone/a", "b"]).output_shape
        ((None, 4), [(None, 4), (None, 2)])
    """
    graph = require_graph("cut", model)
    paths = tree.map_structure(lambda name: find("cut", "layers", graph, name), layers)
    _, calls = laid_open(graph)
    outputs = tree.map_structure(lambda path: _output(model, calls, path), paths)
    resolve_names(graph.inputs, _needed(outputs, calls))
    return keras.Model(graph.input, outputs, name=model.name)


def _output(model, calls, path):
    found = [outputs for place, _, outputs in calls if place == path]
    if not found:
        raise ValueError(
            f"cut: {path!r} lies in a model that is called with a mask, and stays whole. Cut at that model."
        )
    if len(found) > 1:
        raise ValueError(f"cut: {model.name!r} calls {path!r} {len(found)} times. Cut at a layer that it calls once.")
    return found[0]


def _needed(outputs, calls):
    """(path, operation) of the calls that the outputs are computed from."""
    needed = {id(x) for x in tree.flatten(outputs)}
    for path, operation, made in reversed(calls):
        made = tree.flatten(made)
        if any(id(x) in needed for x in made):
            history = made[0]._keras_history
            needed.update(id(x) for x in history.operation._inbound_nodes[history.node_index].input_tensors)
            yield path, operation
