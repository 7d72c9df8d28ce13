"""Reading and rewriting the graph that Keras keeps of a functional model."""

from __future__ import annotations

import keras
from keras import tree


def graph_of(operation):
    """The graph within a functional or Sequential model; None for all else, of whose insides Keras keeps no record."""
    if isinstance(operation, keras.Sequential):
        return operation._functional
    recorded = isinstance(operation, keras.Function) and type(operation).call.__module__.startswith("keras.")
    return operation if recorded else None


def require_graph(owner: str, model):
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


def nodes_of(graph):
    """The calls in a graph, each behind those that it takes its inputs from; inputs are not among them."""
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        yield from (node for node in graph._nodes_by_depth[depth] if not node.is_input)


def rewrite(graph, step, inputs=None):
    """The outputs of a graph, in their structure, with some of its calls replaced.

    Args:
        graph: Of `graph_of`, or any `keras.Function`.
        step: Function of a node and of its arguments in the new graph, (node, args, kwargs): gives the output in its place,
            or None to `repeat` the call.
        inputs: Tensors in the place of `graph.inputs`. None: those themselves.
    """
    values = {id(old): new for old, new in zip(graph.inputs, inputs or graph.inputs, strict=True)}
    for node in nodes_of(graph):
        if any(id(x) not in values for x in node.input_tensors):
            continue  # a call of these layers in another model
        args, kwargs = node.arguments.fill_in(values)
        outputs = step(node, args, kwargs)
        outputs = repeat(node, args, kwargs) if outputs is None else outputs
        values.update(zip(map(id, node.outputs), tree.flatten(outputs), strict=True))
    return tree.map_structure(lambda x: values[id(x)], graph._outputs_struct)  # a keras.Function has no `output`


def repeat(node, args, kwargs):
    """The call of a node with these arguments; where nothing new is among them, the very call that was made."""
    if any(new is not old for new, old in zip(tensors_in(args, kwargs), node.input_tensors, strict=True)):
        return node.operation(*args, **kwargs)
    return node.outputs[0] if len(node.outputs) == 1 else node.outputs


def tensors_in(args, kwargs=()):
    """The symbolic tensors among arguments, in their order."""
    return [x for x in tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]


def remake(layer, **changes):
    """A new layer with the arguments of `layer`, some of them changed."""
    return type(layer).from_config({**layer.get_config(), **changes})
