"""Models within models, laid open."""

from __future__ import annotations

from collections import Counter

import keras

from keras_cnn.surgery.graph import accepted, graph_of, nodes_of, repeat, require_graph, rewrite, tensors_in


def unnest(model: keras.Model) -> keras.Model:
    """The same network as one flat graph: every layer is reached by `get_layer`, and each of its outputs by `cut`.

    Models in a graph of their own (functional, Sequential, at any depth) give way to their layers; other layers and models
    stay whole, and so does a model that is called with a `mask`, which a flat graph cannot hand to its layers.

    Args:
        model: A functional or Sequential model.

    Returns:
        A new model of the same name with the layers of `model`; `model` itself if nothing is nested in it. A layer that is
        called twice is still one layer. A nested layer whose name another layer has too is renamed by where it lies,
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
    if all(_graph_within(node) is None for node in nodes_of(graph)):
        return model
    outputs, calls = laid_open(graph)
    resolve_names(graph.inputs, [(path, operation) for path, operation, _ in calls])
    return keras.Model(graph.input, outputs, name=model.name)


def laid_open(graph):
    """The outputs of a graph without nesting, and its calls: (path such as "backbone/conv", operation, outputs)."""
    calls = []
    return _walk(graph, None, "", {}, calls), calls


def _walk(graph, inputs, prefix, context, calls):
    """`context`: keyword arguments of the call of a nested model, such as `training`, that go on to its layers."""

    def step(node, args, kwargs):
        layer, inner = node.operation, _graph_within(node)
        passed = {key: value for key, value in context.items() if key in getattr(layer, "_call_context_args", ())}
        if inner is not None:
            given = tensors_in(args, kwargs.get("inputs"))
            given = [_like(x, wanted) for x, wanted in zip(given, inner.inputs, strict=True)]
            own = {key: kwargs[key] for key in layer._call_context_args if kwargs.get(key) is not None}
            outputs = _walk(inner, given, f"{prefix}{layer.name}/", {**own, **passed}, calls)
        elif passed := accepted(layer, passed):
            outputs = layer(*args, **{**kwargs, **passed})
        else:
            outputs = repeat(node, args, kwargs)
        calls.append((f"{prefix}{layer.name}", layer, outputs))
        return outputs

    return rewrite(graph, step, inputs)


def _graph_within(node):
    """The graph that gives way to its layers where a model is called."""
    return None if node.arguments.kwargs.get("mask") is not None else graph_of(node.operation)


def _like(x, wanted):
    """A model casts its inputs."""
    return x if x.dtype == wanted.dtype else keras.ops.cast(x, wanted.dtype)


def resolve_names(inputs, places):
    """Rename nested layers until each layer has a name of its own; `places`: (path, operation) of all of a model."""
    outermost = {}
    for path, operation in sorted(places, key=lambda place: place[0].count("/")):
        if graph_of(operation) is None:
            outermost.setdefault(id(operation), (path, operation))
    taken = Counter(operation.name for _, operation in outermost.values())
    taken.update(x._keras_history.operation.name for x in inputs)
    for path, operation in outermost.values():
        if taken[operation.name] > 1 and "/" in path:
            name = path.replace("/", "_")
            while taken[name]:
                name += "_"
            taken.update([name])
            operation.name = name
