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


def rewrite(graph, step, inputs=None, at=None):
    """The outputs of a graph, in their structure, with some of its calls replaced.

    Args:
        graph: Of `graph_of`, or any `keras.Function`.
        step: Function of a node and of its arguments in the new graph, (node, args, kwargs): gives the output in its place,
            or None to `repeat` the call.
        inputs: Tensors in the place of `graph.inputs`. None: those themselves.
        at: Tensors of the graph that `inputs` take the place of, instead of `graph.inputs`.
    """
    values = {id(old): new for old, new in zip(at or graph.inputs, inputs or graph.inputs, strict=True)}
    for node in nodes_of(graph):
        if any(id(x) not in values for x in node.input_tensors):
            continue  # a call of these layers in another model, or one that comes before `at`
        args, kwargs = node.arguments.fill_in(values)
        kwargs = accepted(node.operation, kwargs)
        outputs = step(node, args, kwargs)
        outputs = repeat(node, args, kwargs) if outputs is None else outputs
        values.update(zip(map(id, node.outputs), tree.flatten(outputs), strict=True))
    return tree.map_structure(lambda x: values[id(x)], graph._outputs_struct)  # a keras.Function has no `output`


def accepted(operation, kwargs: dict) -> dict:
    """Keyword arguments of a call without those, such as `training`, that Keras drops before it calls the layer.

    Keras lets any layer be called with them, but computes shapes with all that a graph keeps: `Add` refuses then.
    """
    return {name: value for name, value in kwargs.items() if _accepts(operation, name, value)}


def _accepts(operation, name, value):
    takes = getattr(operation, "_call_has_context_arg", {})
    if takes.get(name, True):  # also an argument that Keras hands to no layers within
        return True
    # A layer that does not take it hands it to the layers within it; without it they do as for False.
    within = operation._flatten_layers(include_self=False)
    return value is not None and value is not False and any(x._call_has_context_arg.get(name) for x in within)


def repeat(node, args, kwargs):
    """The call of a node with these arguments; where nothing new is among them, the very call that was made.

    Gives one tensor, or a list of them: of a dict of outputs a node does not keep the keys.
    """
    pairs = list(zip(tensors_in(args, kwargs), node.input_tensors, strict=True))
    if all(new is old for new, old in pairs):
        outputs = node.outputs
    elif all(map(_is_plain, node.outputs)) and all(_are_alike(new, old) for new, old in pairs):
        # Like inputs give like outputs. To be told so by the layer takes most of the time of a rewrite.
        outputs = [keras.KerasTensor(x.shape, x.dtype) for x in node.outputs]
        type(node)(node.operation, args, kwargs, outputs)  # enters itself where Keras keeps calls
    else:
        outputs = tree.flatten(node.operation(*args, **kwargs))
    return outputs[0] if len(outputs) == 1 else outputs


def _are_alike(x, y):
    return x.shape == y.shape and x.dtype == y.dtype and _is_plain(x) and _is_plain(y)


def _is_plain(x):
    """Whether shape and dtype say all that a layer can ask of a symbolic tensor."""
    return not (x.sparse or x.ragged) and getattr(x, "_keras_mask", None) is None


def tensors_in(args, kwargs=()):
    """The symbolic tensors among arguments, in their order."""
    return [x for x in tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]


def remake(layer, **changes):
    """A new layer with the arguments of `layer`, some of them changed."""
    return type(layer).from_config({**layer.get_config(), **changes})
