"""Freezing that holds: batch normalisation included, and with a check that nothing frozen has moved.

Calling a layer with `training=False` does not freeze its batch normalisation, since `fit` overrides it; `trainable = False`
on the layer does (Keras then runs it in inference mode). So these functions set `trainable`, and nothing else.
"""

from __future__ import annotations

from contextlib import contextmanager

import keras
import numpy as np

from keras_cnn import arguments
from keras_cnn.surgery import output_of


def freeze(model: keras.Model, through: str | None = None) -> None:
    """Make layers untrainable, batch normalisation statistics included.

    Args:
        model: A functional model, not compiled yet.
        through: Name of a stage or layer: it and all that it is computed from are frozen. None: the whole model.

    Raises:
        ValueError: If the model has no such layer, or is compiled already (Keras would ignore the change).
    """
    _not_compiled("freeze", model)
    for layer in model.layers if through is None else _up_to("freeze", model, "through", through):
        layer.trainable = False


def unfreeze(model: keras.Model, from_: str | None = None, batch_norm: bool = False) -> None:
    """Make layers trainable again; their batch normalisation stays frozen unless asked for.

    A stage ends in a `keras.layers.Identity` of its name and begins behind the one before it.

    Args:
        model: A functional model, not compiled yet.
        from_: Name of a stage or layer: it and everything behind it become trainable, the rest is left as it is.
            None: the whole model.
        batch_norm: Whether to train batch normalisation too. Small batches and few images spoil its statistics, and a
            step costs more than twice the time without XLA.

    Raises:
        ValueError: If the model has no such layer, or is compiled already (Keras would ignore the change).
    """
    _not_compiled("unfreeze", model)
    before = [] if from_ is None else _before("unfreeze", model, from_)
    kept = [(part, part.trainable) for layer in before for part in layer._flatten_layers()]
    model.trainable = True  # no layer of a model trains that is itself frozen
    for layer in model.layers:
        layer.trainable = True
        for part in layer._flatten_layers():
            if isinstance(part, keras.layers.BatchNormalization):
                part.trainable = batch_norm
    for part, trainable in kept:  # outer layers first, since setting one sets what is inside it
        part.trainable = trainable


@contextmanager
def check_frozen(model: keras.Model):
    """Raise if a weight of a frozen layer differs at the end of the `with` block from its value at the start.

    Raises:
        RuntimeError: With the names of the weights that moved.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, trainable=False)])
        >>> with check_frozen(model):
        ...     pass  # model.fit(...)
    """
    frozen = [weight for layer in model._flatten_layers() if not layer.trainable for weight in layer.weights]
    before = {weight.path: keras.ops.convert_to_numpy(weight) for weight in frozen}
    yield
    moved = [
        w.path for w in frozen if not np.array_equal(before[w.path], keras.ops.convert_to_numpy(w), equal_nan=True)
    ]
    if moved:
        names = ", ".join(moved[:10]) + (f" and {len(moved) - 10} more" if len(moved) > 10 else "")
        raise RuntimeError(
            f"check_frozen: {len(moved)} weights of frozen layers moved: {names}. Freeze before `compile`: Keras reads "
            "`trainable` then, and ignores later changes."
        )


def _up_to(owner, model, argument, name):
    _layer(owner, model, argument, name)
    return keras.Model(model.input, output_of(model, name)).layers


def _before(owner, model, name):
    """The layers that `name`, a layer or a whole stage, is computed from, itself and its stage not counted."""
    layer = _layer(owner, model, "from_", name)
    upstream = [other for other in _up_to(owner, model, "from_", name) if other is not layer]
    if not isinstance(layer, keras.layers.Identity):
        return upstream
    ends = [other for other in upstream if isinstance(other, keras.layers.Identity)]
    return _up_to(owner, model, "from_", ends[-1].name) if ends else []


def _layer(owner, model, argument, name):
    names = [layer.name for layer in model.layers]
    if name not in names:
        known = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Identity)] or names
        raise ValueError(
            arguments.message(owner, argument, f"a layer of the model, such as {', '.join(known[:8])}", name)
        )
    return model.get_layer(name)


def _not_compiled(owner, model):
    if model.compiled:
        raise ValueError(
            f"{owner}: the model must not be compiled yet, because Keras reads `trainable` when it compiles and ignores "
            f"later changes. Received: a compiled model. Call {owner} first and `compile` after it."
        )
