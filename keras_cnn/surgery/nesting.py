"""Models within models, flattened."""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras

from keras_cnn.keras_internals import context_arguments, producer
from keras_cnn.surgery.graph import (
    accepted_arguments,
    graph_of,
    nodes_of,
    repeat_call,
    require_graph,
    rewrite,
    tensors_in,
)


def unnest(model: keras.Model) -> keras.Model:
    """The same network as one flat graph: `get_layer` reaches every layer, and `cut` each of its outputs.

    Nested models with their own graph (functional, Sequential, at any depth) are replaced by their layers; other layers and
    models stay whole, and so does a model that is called with a `mask`, which a flat graph cannot pass to its layers.

    Args:
        model: A functional or Sequential model.

    Returns:
        A new model of the same name with the layers of `model`; `model` itself if nothing is nested in it. A layer that is
        called twice is still one layer. A nested layer whose name is not unique is renamed by its path,
        "conv" in "encoder" to "encoder_conv", and has this name in `model` too, since it is the same layer.

    Raises:
        TypeError, ValueError: If the model is neither functional nor Sequential, or is not built.

    Example:
        >>> backbone = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="a")], name="backbone")
        >>> inputs = keras.Input((8,), name="image")
        >>> model = keras.Model(inputs, keras.layers.Dense(2, name="b")(backbone(inputs)))
        >>> [layer.name for layer in model.layers], [layer.name for layer in unnest(model).layers]
        (['image', 'backbone', 'b'], ['image', 'a', 'b'])
    """
    graph = require_graph("unnest", model)
    if all(_nested_graph(node) is None for node in nodes_of(graph)):
        return model
    outputs, calls = flatten_nested(graph)
    make_names_unique(graph.inputs, [(path, operation) for path, operation, _ in calls])
    return keras.Model(graph.input, outputs, name=model.name)


def flatten_nested(graph: Any) -> tuple[Any, list[tuple[str, Any, Any]]]:
    """The outputs of a graph without nesting, and its calls: (path such as "backbone/conv", operation, outputs)."""
    calls: list[tuple[str, Any, Any]] = []
    return _flatten(graph, None, "", {}, calls), calls


def _flatten(graph, inputs, prefix, context, calls):
    """`context`: keyword arguments of the call of a nested model, such as `training`, which its layers receive."""

    def step(node, args, kwargs):
        layer, inner = node.operation, _nested_graph(node)
        passed = {key: value for key, value in context.items() if key in context_arguments(layer)}
        if inner is not None:
            given = tensors_in(args, kwargs.get("inputs"))
            given = [_cast_like(x, wanted) for x, wanted in zip(given, inner.inputs, strict=True)]
            own = {key: kwargs[key] for key in context_arguments(layer) if kwargs.get(key) is not None}
            outputs = _flatten(inner, given, f"{prefix}{layer.name}/", {**own, **passed}, calls)
        elif passed := accepted_arguments(layer, passed):
            outputs = layer(*args, **{**kwargs, **passed})
        else:
            outputs = repeat_call(node, args, kwargs)
        calls.append((f"{prefix}{layer.name}", layer, outputs))
        return outputs

    return rewrite(graph, step, inputs)


def _nested_graph(node):
    """The graph to flatten where a model is called; None for other calls."""
    return None if node.arguments.kwargs.get("mask") is not None else graph_of(node.operation)


def _cast_like(x, wanted):
    """As a model casts its inputs."""
    return x if x.dtype == wanted.dtype else keras.ops.cast(x, wanted.dtype)


def make_names_unique(inputs: list[keras.KerasTensor], operations: list[tuple[str, Any]]) -> None:
    """Rename nested layers until all names differ; `operations`: (path, operation) of all calls of a model."""
    outermost: dict[int, tuple[str, Any]] = {}
    for path, operation in sorted(operations, key=lambda pair: pair[0].count("/")):
        if graph_of(operation) is None:
            outermost.setdefault(id(operation), (path, operation))
    taken = Counter(operation.name for _, operation in outermost.values())
    taken.update(producer(x).name for x in inputs)
    for path, operation in outermost.values():
        if taken[operation.name] > 1 and "/" in path:
            name = path.replace("/", "_")
            while taken[name]:
                name += "_"
            taken.update([name])
            operation.name = name
