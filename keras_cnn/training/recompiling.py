"""Compiling a model anew after its trainable variables have changed, with the state of its optimizer kept."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

import keras


@contextmanager
def recompiled(owner: str, model: keras.Model):
    """Within it, `trainable` may be changed; at its end a model that was compiled is compiled anew.

    Loss, metrics and options stay. The new optimizer has the hyperparameters, the step count and the slots of the old one,
    for the variables that both train; the slots of others begin as in a new optimizer.

    Raises:
        ValueError: Before anything is changed, if the model or its optimizer cannot be made anew.
    """
    if not model.compiled:
        yield
        return
    if type(model).compile is not keras.Model.compile:
        raise _cannot(owner, f"{type(model).__name__} has a `compile` of its own")
    strategy = getattr(model, "distribute_strategy", None)
    with strategy.scope() if strategy else nullcontext():
        old = model.optimizer
        new = _renewed(owner, old)
        state = _State(owner, old)
        yield
        options = {name: getattr(model, name) for name in ("run_eagerly", "jit_compile", "steps_per_execution")}
        # The optimizer already is one that scales the loss, where that was asked for.
        model.compile(**{**model._compile_config.config, **options, "optimizer": new, "auto_scale_loss": False})
        if old.built:
            new.build(model.trainable_variables)
            state.hand_over(new)


def _renewed(owner, optimizer):
    """An optimizer of the same class and hyperparameters that has not seen a variable yet."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        options = {name: getattr(optimizer, name) for name in ("initial_scale", "dynamic_growth_steps", "name")}
        return type(optimizer)(_renewed(owner, optimizer.inner_optimizer), **options)
    rate = optimizer._learning_rate
    schedule = {} if isinstance(rate, keras.Variable) else {"learning_rate": rate}
    try:
        if schedule:  # it goes over as it is: the user's own may have no config
            optimizer._learning_rate = None
        new = type(optimizer).from_config({**optimizer.get_config(), **schedule})
    except Exception as error:  # whatever an optimizer of others says
        raise _cannot(owner, f"its {type(optimizer).__name__} cannot be made from `get_config()` ({error})") from error
    finally:
        optimizer._learning_rate = rate
    for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):  # not in the config
        if hasattr(optimizer, name):
            setattr(new, name, getattr(optimizer, name))
    return new


class _State:
    """What an optimizer holds: variables of its own, lists with a slot for each trained variable, optimizers within it."""

    def __init__(self, owner, optimizer):
        self.trained = {id(variable): place for place, variable in enumerate(optimizer._trainable_variables)}
        self.own, self.slots, self.inner = {}, {}, {}
        for name, value in vars(optimizer).items():
            if isinstance(value, keras.Variable):
                self.own[name] = value
            elif isinstance(value, keras.optimizers.Optimizer):
                self.inner[name] = _State(owner, value)
            elif name not in ("_variables", "_trainable_variables") and self._is_slots(value):
                self.slots[name] = list(value)
        held = self.held()
        missing = [variable.name for variable in optimizer.variables if id(variable) not in held]
        if missing:
            kind = type(optimizer).__name__
            raise _cannot(owner, f"its {kind} keeps {missing[0]!r} where only its own code finds it")

    def _is_slots(self, value):
        of_right_length = isinstance(value, list) and len(value) == len(self.trained)
        return of_right_length and all(slot is None or isinstance(slot, keras.Variable) for slot in value)

    def held(self):
        """ids of the variables."""
        groups = [self.own.values(), *self.slots.values()]
        return {id(variable) for group in groups for variable in group}.union(*(s.held() for s in self.inner.values()))

    def hand_over(self, new):
        """Give it to an optimizer that is built for other variables."""
        for name, variable in self.own.items():
            getattr(new, name).assign(variable)
        for name, state in self.inner.items():
            state.hand_over(getattr(new, name))
        for place, variable in enumerate(new._trainable_variables):
            old_place = self.trained.get(id(variable))
            for name, slots in self.slots.items():
                if old_place is not None and slots[old_place] is not None:
                    getattr(new, name)[place].assign(slots[old_place])
            if old_place is None and new.use_ema:  # an average that began at 0 would pull the variable there
                new._model_variables_moving_average[place].assign(variable)


def _cannot(owner, reason):
    return ValueError(
        f"{owner}: the model is compiled and cannot be compiled anew here, because {reason}. Call {owner} first and `compile` "
        "after it: Keras reads `trainable` then, and ignores later changes."
    )
