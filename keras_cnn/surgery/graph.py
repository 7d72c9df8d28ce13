"""Reading and rewriting the graph that Keras keeps of a functional model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import tree

from keras_cnn.keras_internals import (
    accepts_context_argument,
    functional_graph,
    has_mask,
    nodes_by_depth,
    output_structure,
    passes_on,
)


def graph_of(operation: Any) -> Any:
    """The graph within a functional or Sequential model; None for every other operation, whose inner calls Keras drops."""
    if isinstance(operation, keras.Sequential):
        return functional_graph(operation)
    recorded = isinstance(operation, keras.Function) and type(operation).call.__module__.startswith("keras.")
    return operation if recorded else None


def require_graph(owner: str, model: Any) -> Any:
    """The graph of a model; TypeError or ValueError if it has none."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"{owner}: `model` must be a keras.Model. Received: {type(model).__name__}.")
    graph = graph_of(model)
    if graph is None and isinstance(model, keras.Sequential):
        raise ValueError(
            f"{owner}: the model must be built. Received: {model.name!r}. Begin it with keras.Input(shape)."
        )
    if graph is None:
        raise ValueError(
            f"{owner}: the model must be functional or Sequential. Received: {model.name!r} of class "
            f"{type(model).__name__}, whose `call` is code that Keras keeps no graph of."
        )
    return graph


def nodes_of(graph: Any) -> Iterator[Any]:
    """The calls in a graph, each after those that it takes its inputs from; inputs are not among them."""
    by_depth = nodes_by_depth(graph)
    for depth in sorted(by_depth, reverse=True):
        yield from (node for node in by_depth[depth] if not node.is_input)


def rewrite(graph: Any, step: Callable[..., Any], inputs: list[Any] | None = None, at: list[Any] | None = None) -> Any:
    """The outputs of a graph, in their structure, with some of its calls replaced.

    Args:
        graph: From `graph_of`, or any `keras.Function`.
        step: Function of a node and of its arguments in the new graph, (node, args, kwargs): returns the output to use instead,
            or None to `repeat_call`.
        inputs: Tensors that replace `graph.inputs`. None: those themselves.
        at: Tensors of the graph that `inputs` replace, instead of `graph.inputs`.
    """
    values = {id(old): new for old, new in zip(at or graph.inputs, inputs or graph.inputs, strict=True)}
    for node in nodes_of(graph):
        if any(id(x) not in values for x in node.input_tensors):
            continue  # a call of these layers in another model, or one before `at`
        args, kwargs = node.arguments.fill_in(values)
        kwargs = accepted_arguments(node.operation, kwargs)
        outputs = step(node, args, kwargs)
        outputs = repeat_call(node, args, kwargs) if outputs is None else outputs
        values.update(zip(map(id, node.outputs), tree.flatten(outputs), strict=True))
    return tree.map_structure(lambda x: values[id(x)], output_structure(graph))


def accepted_arguments(operation: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a call without those, such as `training`, that Keras drops before it calls the layer.

    Keras lets any layer be called with them, but computes shapes with every argument of the graph, which `Add` then refuses.
    """
    return {name: value for name, value in kwargs.items() if _accepts(operation, name, value)}


def _accepts(operation, name, value):
    if accepts_context_argument(operation, name):
        return True
    # A layer without the argument passes it on to the layers within it; without it they compute as for False.
    return value is not None and value is not False and passes_on(operation, name)


def repeat_call(node: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The output of a node's call with these arguments; where no argument is new, the output of the existing call.

    Returns one tensor, or a list of them: a node does not keep the keys of a dict of outputs.
    """
    pairs = list(zip(tensors_in(args, kwargs), node.input_tensors, strict=True))
    if all(new is old for new, old in pairs):
        outputs = node.outputs
    elif all(map(_is_plain, node.outputs)) and all(_are_alike(new, old) for new, old in pairs):
        # Inputs of equal shape and dtype give outputs of equal shape and dtype. Asking the layer takes most of the time of a
        # rewrite.
        outputs = [keras.KerasTensor(x.shape, x.dtype) for x in node.outputs]
        type(node)(node.operation, args, kwargs, outputs)  # registers itself with Keras
    else:
        outputs = tree.flatten(node.operation(*args, **kwargs))
    return outputs[0] if len(outputs) == 1 else outputs


def _are_alike(x, y):
    return x.shape == y.shape and x.dtype == y.dtype and _is_plain(x) and _is_plain(y)


def _is_plain(x):
    """Whether shape and dtype are all that a layer can read from a symbolic tensor."""
    return not (x.sparse or x.ragged or has_mask(x))


def tensors_in(args: Any, kwargs: Any = ()) -> list[keras.KerasTensor]:
    """The symbolic tensors among arguments, in their order."""
    return [x for x in tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]


def clone_layer(layer: keras.layers.Layer, **changes: Any) -> keras.layers.Layer:
    """A new layer with the arguments of `layer`, some of them changed."""
    return type(layer).from_config({**layer.get_config(), **changes})
