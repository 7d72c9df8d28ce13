"""Compiling a model again after its trainable variables have changed, with the state of its optimizer kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import keras

from keras_cnn.keras_internals import (
    compile_arguments,
    copy_weight_decay_exclusions,
    learning_rate_hidden,
    learning_rate_or_schedule,
    moving_averages,
    optimized_variables,
    own_attributes,
)


@contextmanager
def recompile_keeping_optimizer(owner: str, model: keras.Model) -> Iterator[None]:
    """A context in which `trainable` may be changed; at its end a model that was compiled is compiled again.

    Loss, metrics and options stay. The new optimizer has the hyperparameters and the step count of the old one, and its slots
    for the variables that both train; the other slots start as in a new optimizer.

    Raises:
        ValueError: Before anything is changed, if the model or its optimizer cannot be rebuilt.
    """
    if not model.compiled:
        yield
        return
    if type(model).compile is not keras.Model.compile:
        raise _cannot(owner, f"{type(model).__name__} has its own `compile`")
    strategy = getattr(model, "distribute_strategy", None)
    with strategy.scope() if strategy else nullcontext():
        old = model.optimizer
        new = clone_optimizer(owner, old)
        state = _OptimizerState(owner, old)
        yield
        options = {name: getattr(model, name) for name in ("run_eagerly", "jit_compile", "steps_per_execution")}
        # The optimizer already is one that scales the loss, if `compile` was asked for that.
        model.compile(**{**compile_arguments(model), **options, "optimizer": new, "auto_scale_loss": False})
        if old.built:
            new.build(model.trainable_variables)
            state.copy_to(new)


def clone_optimizer(owner: str, optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """A new, unbuilt optimizer of the same class with the same hyperparameters.

    Raises:
        ValueError: If its configuration is not enough to rebuild it.
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        options = {name: getattr(optimizer, name) for name in ("initial_scale", "dynamic_growth_steps", "name")}
        return type(optimizer)(clone_optimizer(owner, optimizer.inner_optimizer), **options)
    rate = learning_rate_or_schedule(optimizer)
    is_schedule = not isinstance(rate, keras.Variable)
    try:
        # A schedule is taken as it is: a custom one may have no config.
        with learning_rate_hidden(optimizer) if is_schedule else nullcontext():
            config = {**optimizer.get_config(), **({"learning_rate": rate} if is_schedule else {})}
            new = type(optimizer).from_config(config)
    except Exception as error:  # a custom optimizer may raise anything
        raise _cannot(owner, f"its {type(optimizer).__name__} cannot be made from `get_config()` ({error})") from error
    copy_weight_decay_exclusions(optimizer, new)  # not in the config
    return new


class _OptimizerState:
    """The state of an optimizer: its own variables, its lists with one slot per trained variable, its inner optimizers."""

    def __init__(self, owner, optimizer):
        self.trained = {id(variable): index for index, variable in enumerate(optimized_variables(optimizer))}
        self.variables, self.slots, self.inner = {}, {}, {}
        for name, value in own_attributes(optimizer).items():
            if isinstance(value, keras.Variable):
                self.variables[name] = value
            elif isinstance(value, keras.optimizers.Optimizer):
                self.inner[name] = _OptimizerState(owner, value)
            elif self._is_slots(value):
                self.slots[name] = list(value)
        known = self.variable_ids()
        missing = [variable.name for variable in optimizer.variables if id(variable) not in known]
        if missing:
            kind = type(optimizer).__name__
            raise _cannot(owner, f"its {kind} keeps {missing[0]!r} where only its own code finds it")

    def _is_slots(self, value):
        of_right_length = isinstance(value, list) and len(value) == len(self.trained)
        return of_right_length and all(slot is None or isinstance(slot, keras.Variable) for slot in value)

    def variable_ids(self):
        groups = [self.variables.values(), *self.slots.values()]
        ids = {id(variable) for group in groups for variable in group}
        return ids.union(*(state.variable_ids() for state in self.inner.values()))

    def copy_to(self, new):
        """Assign it to an optimizer of the same class that is built for other variables."""
        for name, variable in self.variables.items():
            getattr(new, name).assign(variable)
        for name, state in self.inner.items():
            state.copy_to(getattr(new, name))
        for index, variable in enumerate(optimized_variables(new)):
            old_index = self.trained.get(id(variable))
            for name, slots in self.slots.items():
                if old_index is not None and slots[old_index] is not None:
                    getattr(new, name)[index].assign(slots[old_index])
            if old_index is None and new.use_ema:  # an average that starts at 0 would pull the variable there
                moving_averages(new)[index].assign(variable)


def _cannot(owner, reason):
    return ValueError(
        f"{owner}: the model is compiled and cannot be compiled again here, because {reason}. Call {owner} first and `compile` "
        "after it: Keras reads `trainable` then, and ignores later changes."
    )
