"""Intermediate outputs."""

from __future__ import annotations

import keras
from keras import tree

from keras_cnn.keras_internals import producing_call
from keras_cnn.surgery.graph import require_graph
from keras_cnn.surgery.layer_paths import find_path
from keras_cnn.surgery.nesting import flatten_nested, make_names_unique


def cut(model: keras.Model, layers: str | list[str]) -> keras.Model:
    """A model whose outputs are those of some layers, nested ones included.

    Args:
        model: A functional or Sequential model.
        layers: Name of a layer, or a list of names. A layer within a nested model is "backbone/conv1", or "conv1" if no
            other layer has that name; a nested model is named like a layer.

    Returns:
        A new model of the same name, with the inputs of `model` and the very same layers; nested models are flattened,
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
    paths = tree.map_structure(lambda name: find_path("cut", "layers", graph, name), layers)
    _, calls = flatten_nested(graph)
    outputs = tree.map_structure(lambda path: _output(model, calls, path), paths)
    make_names_unique(graph.inputs, _needed(outputs, calls))
    return keras.Model(graph.input, outputs, name=model.name)


def _output(model, calls, path):
    found = [outputs for called, _, outputs in calls if called == path]
    if not found:
        raise ValueError(
            f"cut: {path!r} lies in a model that is called with a mask, and stays whole. Cut at that model."
        )
    if len(found) > 1:
        raise ValueError(f"cut: {model.name!r} calls {path!r} {len(found)} times. Cut at a layer that it calls once.")
    return found[0]


def _needed(outputs, calls):
    """(path, operation) of the calls that the outputs are computed from."""
    needed, found = {id(x) for x in tree.flatten(outputs)}, []
    for path, operation, call_outputs in reversed(calls):
        call_outputs = tree.flatten(call_outputs)
        if any(id(x) in needed for x in call_outputs):
            needed.update(id(x) for x in producing_call(call_outputs[0]).input_tensors)
            found.append((path, operation))
    return found
