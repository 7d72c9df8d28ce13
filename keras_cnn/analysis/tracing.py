"""Every call in a model, in order, with shapes: calls within nested models one by one, and nothing is computed.

Shapes come from `compute_output_spec`, so that any input size can be asked for; the model is left as it was.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import keras
from keras import tree

from keras_cnn.analysis.hooks import patched
from keras_cnn.keras_internals import calls_forgotten, check_input, producer
from keras_cnn.surgery.graph import graph_of, rewrite, tensors_in

IDENTITY = keras.layers.Identity()
OPERATORS = ("__add__", "__sub__", "__mul__", "__truediv__", "__floordiv__", "__mod__", "__pow__", "__matmul__")
_HEADS = keras.KerasTensor((1, 1, 1, 1))
DOT_PRODUCT_ATTENTION = type(producer(keras.ops.dot_product_attention(_HEADS, _HEADS, _HEADS)))


@dataclass(frozen=True)
class Call:
    """One call of a layer, or of an operation of `keras.ops`.

    Attributes:
        name: Name of the layer, after those of the models it is nested in: "backbone/conv1".
        operation: The layer or operation.
        args: What it is called with, `keras.KerasTensor` for tensors.
        kwargs: The same for arguments by name.
        outputs: The tensors it gives.
        parts: The calls within it, if it is a layer written in other layers and `keras.ops`.
    """

    name: str
    operation: keras.Operation
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[keras.KerasTensor, ...]
    parts: tuple[Call, ...] = ()

    @property
    def inputs(self) -> list[keras.KerasTensor]:
        """The tensors among the arguments, in order."""
        return tensors_in(self.args, self.kwargs)


class UntraceableError(ValueError):
    """A layer or model whose `call` is more than Keras layers and operations."""


def is_symbolic(x: Any) -> bool:
    """Whether it is a tensor without values."""
    return isinstance(x, keras.KerasTensor)


def trace_calls(
    model: keras.Model, inputs: Sequence[keras.KerasTensor], known: Callable[[keras.Operation], bool]
) -> tuple[list[Call], list[keras.KerasTensor]]:
    """All calls of `model` on `inputs`.

    Args:
        model: A built model.
        inputs: List of `keras.KerasTensor`, of any sizes that the model takes.
        known: Function of an operation: whether it is a call of its own. Other layers are traced.

    Returns:
        The calls, and the list of output tensors.

    Raises:
        UntraceableError: If the model is a subclass whose `call` cannot be followed.
    """
    calls = []
    for tensor, own in zip(inputs, getattr(model, "inputs", None) or (), strict=False):
        tensor.name = producer(own).name
    graph = graph_of(model)
    with patched(DOT_PRODUCT_ATTENTION, "compute_output_spec", _attention_output):
        if graph:
            outputs = _walk(graph, inputs, "", calls, known)
        else:
            structure = inputs[0] if len(inputs) == 1 else inputs
            outputs = _trace(model, (structure,), {}, "", calls, known)
    return calls, tree.flatten(outputs)


def _attention_output(operation, query, key, value, **others):
    """What `keras.ops.dot_product_attention` gives; Keras takes the size of its queries for that of its values."""
    dtype = keras.backend.result_type(query.dtype, key.dtype, value.dtype)
    return keras.KerasTensor((*query.shape[:-1], value.shape[-1]), dtype)


def _walk(graph, inputs, prefix, calls, known):
    """Add the calls of a graph to `calls`; returns its outputs, in its own structure."""
    return rewrite(
        graph,
        lambda node, args, kwargs: _call(node.operation, args, kwargs, prefix, calls, known),
        tree.flatten(inputs),
    )


def _call(operation, args, kwargs, prefix, calls, known):
    """Add one call to `calls`, or the calls of a nested model; returns its outputs."""
    name = prefix + operation.name
    graph = graph_of(operation)
    if graph is not None:
        return _walk(graph, tensors_in(args, kwargs), f"{name}/", calls, known)
    if "training" not in inspect.signature(operation.call).parameters:  # Keras lets any layer be called with it
        kwargs = {key: value for key, value in kwargs.items() if key != "training"}
    if isinstance(operation, keras.Model):
        return _trace(operation, args, kwargs, f"{name}/", calls, known)
    parts = []
    try:
        if known(operation) or not isinstance(operation, keras.layers.Layer):
            outputs = _specified_outputs(operation, name, args, kwargs)
        else:
            outputs = _trace(operation, args, kwargs, f"{name}/", parts, known)
            outputs = _without_inputs(outputs, tensors_in(args, kwargs), name, parts)
    except UntraceableError:
        parts = []
        outputs = _specified_outputs(operation, name, args, kwargs)
    symbolic = tuple(x for x in tree.flatten(outputs) if is_symbolic(x))
    calls.append(Call(name, operation, args, kwargs, symbolic, tuple(parts)))
    return outputs


def _without_inputs(outputs, inputs, name, parts):
    """Outputs of a layer; those that are its very inputs become tensors of their own, by a call in `parts`."""
    new = {}
    for x in inputs:
        if id(x) not in new and any(x is output for output in tree.flatten(outputs)):
            new[id(x)] = keras.KerasTensor(x.shape, x.dtype, name=name)
            parts.append(Call(name, IDENTITY, (x,), {}, (new[id(x)],)))
    return tree.map_structure(lambda x: new.get(id(x), x), outputs)


def _specified_outputs(operation, name, args, kwargs):
    """Tensors of the shapes that the layer or operation specifies; new ones, even where it gives its input."""
    inputs = next(iter((*args, *kwargs.values())), None)  # a layer may be called as layer(inputs=x)
    try:
        if isinstance(operation, keras.layers.Layer):
            check_input(operation, inputs)
        if isinstance(operation, keras.layers.Concatenate):
            _check_sizes_except(operation.axis, inputs)
        outputs = operation.compute_output_spec(*args, **kwargs)
        # EinsumDense does not give the sizes that it leaves alone, and confuses those that "..." stands for.
        if (_all_sizes_known((args, kwargs)) and not _all_sizes_known(outputs)) or "..." in getattr(
            operation, "equation", ""
        ):
            outputs = keras.Operation.compute_output_spec(operation, *args, **kwargs)
    except Exception as error:  # Keras raises whatever the layer's own code does
        given = tensors_in(args, kwargs)
        maps = " and ".join(f"{x.name!r} {x.shape[1:]}" for x in given)
        maps = f"a map of shape {given[0].shape[1:]}" if len(given) == 1 else f"the maps of {maps}"
        raise ValueError(f"analyze: {name!r} does not take {maps}: {' '.join(str(error).split())}") from error
    return tree.map_structure(
        lambda x: keras.KerasTensor(x.shape, x.dtype, name=name) if is_symbolic(x) else x, outputs
    )


def _check_sizes_except(axis, tensors):
    """ValueError if sizes differ along another axis than `axis`; Keras looks at them at the first call only."""
    shapes = [list(x.shape) for x in tensors]
    for shape in shapes:
        del shape[axis]
    if any(len({size for size in sizes if size is not None}) > 1 for sizes in zip(*shapes, strict=True)):
        raise ValueError(
            f"All sizes must be equal except along axis {axis}. Crop or pad, or take an input of another size."
        )


def _all_sizes_known(tensors):
    return not any(None in x.shape for x in tree.flatten(tensors) if is_symbolic(x))


def _trace(operation, args, kwargs, prefix, calls, known):
    """The calls that a layer or a subclassed model makes within its `call`."""
    given = tensors_in(args, kwargs)
    fresh = {id(x): keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in given}
    args, kwargs = tree.map_structure(lambda x: fresh[id(x)] if is_symbolic(x) else x, (args, kwargs))
    call = (
        _call_of_all_steps(operation.layer) if isinstance(operation, keras.layers.TimeDistributed) else operation.call
    )
    if "training" in inspect.signature(call).parameters:
        kwargs = {**kwargs, "training": False}
    try:
        with calls_forgotten(operation), keras.StatelessScope(), _operators_of_tensors():
            graph = keras.Function([fresh[id(x)] for x in given], call(*args, **kwargs))
    except Exception as error:  # whatever the code of others does on a tensor without values
        raise UntraceableError(f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}") from error
    return _walk(graph, given, prefix, calls, known)


def _operators_of_tensors():
    """A context in which `variable * tensor` calls the operator of a symbolic tensor, as `tensor * variable` does."""

    def deferring(own):
        return lambda variable, other: NotImplemented if is_symbolic(other) else own(variable, other)

    with ExitStack() as stack:
        for name in OPERATORS:
            stack.enter_context(patched(keras.Variable, name, deferring(getattr(keras.Variable, name))))
        return stack.pop_all()


def _call_of_all_steps(layer):
    """What `keras.layers.TimeDistributed` does, without its loop: the steps of all examples are one batch."""

    def call(x, **kwargs):
        outputs = layer(keras.ops.reshape(x, (-1, *x.shape[2:])))
        return keras.ops.reshape(outputs, (-1, x.shape[1], *outputs.shape[1:]))

    return call
