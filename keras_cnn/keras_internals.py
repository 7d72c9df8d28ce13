"""The private attributes of Keras that the project uses, each in a function of its own.

Keras may rename a private attribute in any release, so no other file names one, and tests/test_keras_internals.py has one
line per name, which reports the name that a release has lost. Written for Keras 3.15.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

# What `fit` sets on a callback: its model and `params`.
SET_BY_FIT = ("_model", "params")


def sublayers(layer: keras.Layer, include_self: bool = True, recursive: bool = True) -> list[keras.Layer]:
    """The layers within a layer or model, each once.

    Args:
        layer: A layer or a model.
        include_self: Whether `layer` itself is the first of them.
        recursive: Whether to list the layers at every depth of nesting; False: those directly within `layer`.
    """
    return layer._flatten_layers(include_self=include_self, recursive=recursive)


def producer(tensor: keras.KerasTensor) -> keras.Operation:
    """The layer or operation that computes a tensor of a functional model; for an input its `InputLayer`."""
    return tensor._keras_history.operation


def producing_call(tensor: keras.KerasTensor) -> Any:
    """The node of the call that computes a tensor of a functional model."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


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


def check_input(layer: keras.Layer, inputs: Any) -> None:
    """Raise the error that Keras raises when `layer` is called on `inputs` of a rank, shape or size that it does not take."""
    layer._assert_input_compatibility(inputs)


def functional_graph(model: keras.Sequential) -> keras.Function | None:
    """The functional model within a Sequential one; None before it is built."""
    return model._functional


def nodes_by_depth(graph: keras.Function) -> dict[int, list]:
    """The calls in a graph, per distance from the outputs."""
    return graph._nodes_by_depth


def output_structure(graph: keras.Function) -> Any:
    """The outputs of a graph in their nested structure; unlike `output`, a plain `keras.Function` has it too."""
    return graph._outputs_struct


def has_mask(tensor: keras.KerasTensor) -> bool:
    """Whether a symbolic tensor carries a mask."""
    return getattr(tensor, "_keras_mask", None) is not None


def context_arguments(operation: keras.Operation) -> set[str]:
    """The arguments, such as "training", that a layer hands on to the layers within it."""
    return getattr(operation, "_call_context_args", set())


def accepts_context_argument(operation: keras.Operation, name: str) -> bool:
    """Whether `call` of a layer has a context argument; also True for an argument that is not one."""
    return getattr(operation, "_call_has_context_arg", {}).get(name, True)


def passes_on(layer: keras.Layer, name: str) -> bool:
    """Whether a layer within `layer` has the context argument `name` in its `call`."""
    return any(part._call_has_context_arg.get(name) for part in sublayers(layer, include_self=False))


def takes_training(operation: keras.Operation) -> bool:
    """Whether `call` of a layer has the argument `training`."""
    return getattr(operation, "_call_has_training_arg", False)


def own_trainable_variables(layer: keras.Layer) -> list[keras.Variable]:
    """The variables that a layer itself, not one within it, made as trainable ones."""
    return layer._trainable_variables


@contextmanager
def dtype_policies(layers: list[keras.Layer], policy: str) -> Iterator[None]:
    """A context in which layers compute under another dtype policy, a policy map left as it is."""
    before = [layer._dtype_policy for layer in layers]
    try:
        for layer in layers:
            layer._dtype_policy = keras.DTypePolicy(policy)
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            layer._dtype_policy = own


def compile_arguments(model: keras.Model) -> dict[str, Any]:
    """The arguments that a compiled model was compiled with."""
    return model._compile_config.config


def build_training_state(model: keras.Model, batch: Any) -> None:
    """Make the variables of metrics and optimizer, as the first step of `fit` does, from the shapes of a batch."""
    model._symbolic_build(data_batch=batch)


def set_initial_epoch(model: keras.Model, epoch: int | None) -> None:
    """Let the running `fit` begin at an epoch, as `keras.callbacks.BackupAndRestore` does; None: at its `initial_epoch`."""
    model._initial_epoch = epoch


def model_of(callback: keras.callbacks.Callback) -> keras.Model | None:
    """The model that `fit` has given a callback; None before, and for a callback that does not call its base class."""
    return getattr(callback, "_model", None)


def optimized_variables(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """The model's variables that an optimizer was built for."""
    return optimizer._trainable_variables


def moving_averages(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """The averages that an optimizer with `use_ema=True` keeps, in the order of `optimized_variables`."""
    return optimizer._model_variables_moving_average


def own_attributes(optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """The attributes of an optimizer without its lists of all variables, its own and the model's."""
    return {name: x for name, x in vars(optimizer).items() if name not in ("_variables", "_trainable_variables")}


def learning_rate_or_schedule(optimizer: keras.optimizers.Optimizer) -> keras.Variable | Callable:
    """What an optimizer takes its learning rate from: a variable or a schedule."""
    return optimizer._learning_rate


@contextmanager
def learning_rate_hidden(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """A context in which `get_config` of an optimizer does not see its learning rate schedule."""
    schedule = optimizer._learning_rate
    optimizer._learning_rate = None
    try:
        yield
    finally:
        optimizer._learning_rate = schedule


def copy_weight_decay_exclusions(source: keras.optimizers.Optimizer, target: keras.optimizers.Optimizer) -> None:
    """Exclude from the weight decay of `target` what `exclude_from_weight_decay` excluded from that of `source`."""
    for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):
        if hasattr(source, name):
            setattr(target, name, getattr(source, name))


def variable_index(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> int:
    """The index of a variable in `optimized_variables`."""
    return optimizer._get_variable_index(variable)


def decays(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> bool:
    """Whether the weight decay of an optimizer applies to a variable."""
    return optimizer._use_weight_decay(variable)


class NoSeparateWeightDecay:
    """For an optimizer class that applies the weight decay in `update_step`: a base class before that of Keras."""

    def _apply_weight_decay(self, variables: list[keras.Variable]) -> None:
        """Do nothing."""
