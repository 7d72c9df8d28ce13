"""The private attributes of Keras that this package reads, each in a function of its own.

Keras may rename them in any release. So no other file names them, and tests/test_keras_internals.py has a line for each
that says which one is gone. Written for Keras 3.15.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras


def sublayers(layer: keras.Layer, include_self: bool = True) -> list[keras.Layer]:
    """The layers within a layer or model, at every depth of nesting, each once.

    Args:
        layer: A layer or a model.
        include_self: Whether `layer` itself is the first of them.
    """
    return layer._flatten_layers(include_self=include_self)


def producer(tensor: keras.KerasTensor) -> keras.Operation:
    """The layer or operation that gave a tensor of a functional model; for an input its `InputLayer`."""
    return tensor._keras_history.operation


def call_records(operation: keras.Operation) -> tuple[list, list]:
    """The lists in which Keras records calls on symbolic tensors: those of `operation`, and those that take its outputs.

    They are the lists themselves: whoever deletes an entry makes the operation forget that call.
    """
    return operation._inbound_nodes, operation._outbound_nodes


@contextmanager
def calls_forgotten(layer: keras.Layer) -> Iterator[None]:
    """A context at whose end `layer` and its sublayers forget the calls on symbolic tensors that were made in it."""
    records = [record for part in sublayers(layer) for record in call_records(part)]
    lengths = [len(record) for record in records]
    try:
        yield
    finally:
        for record, length in zip(records, lengths, strict=True):
            del record[length:]


def check_input(layer: keras.Layer, inputs) -> None:
    """Raise the error that Keras raises when `layer` is called on `inputs` of a rank, shape or size that it does not take."""
    layer._assert_input_compatibility(inputs)
