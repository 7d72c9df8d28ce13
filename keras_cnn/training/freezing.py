"""Freezing that holds: batch normalisation included, after `compile` too, and with a check that nothing frozen has moved.

Calling a layer with `training=False` does not freeze its batch normalisation, since `fit` overrides it; `trainable = False`
on the layer does (Keras then runs it in inference mode). So these functions set `trainable`, and compile anew where Keras
has read it already.
"""

from __future__ import annotations

import re
from contextlib import contextmanager

import keras
import numpy as np

from keras_cnn.arguments import join_some
from keras_cnn.surgery.graph import graph_of, nodes_of
from keras_cnn.surgery.layer_paths import before, find
from keras_cnn.training.recompiling import recompiled


class FrozenWeightsError(RuntimeError):
    """Training has changed weights that are frozen: what was trained is not what was asked for."""


def freeze(model: keras.Model, through: str | None = None) -> None:
    """Make layers untrainable, batch normalisation statistics included.

    On a compiled model, training goes on as before with the layers that stay: it is compiled anew with the same loss,
    metrics and options, and with a new optimizer that has the slots (momentum and the like) of the old one.

    Args:
        model: The model that is trained; freezing a part of it does not reach a model around it that is compiled already.
        through: Name of a stage or layer, "backbone/stage4" or "stage4" in a nested model: it and all that it is computed
            from are frozen. None: the whole model.

    Raises:
        ValueError: If the model has no such layer; if it is not functional, so that only the whole can be frozen; if it is
            compiled and cannot be compiled anew. Nothing is changed then.
    """
    layers = model.layers if through is None else _upstream("freeze", model, "through", through)
    with recompiled("freeze", model):
        # Each part on its own: setting a layer to what it is already does not reach into it, with Keras on TensorFlow.
        for part in (part for layer in layers for part in layer._flatten_layers()):
            part.trainable = False


def unfreeze(model: keras.Model, from_: str | None = None, batch_norm: bool = False) -> None:
    """Make layers trainable again; their batch normalisation stays frozen unless asked for.

    A stage ends in a `keras.layers.Identity` of its name and begins behind the one before it. A compiled model is compiled
    anew as by `freeze`; the slots of variables that were not trained before begin empty.

    Args:
        model: The model that is trained.
        from_: Name of a stage or layer, as in `freeze`: it and everything behind it become trainable, the rest is left as it
            is. None: the whole model.
        batch_norm: Whether to train batch normalisation too. Small batches and few images spoil its statistics, and
            without XLA a step takes longer, for Keras normalises by many small operations. Within a `kc.layers.HubLayer`,
            which has one switch for all, it trains with the rest.

    Raises:
        ValueError: As `freeze`.
    """
    left = [] if from_ is None else _upstream("unfreeze", model, "from_", from_, whole_stage=True)
    kept = [(part, part.trainable) for layer in left for part in layer._flatten_layers()]
    with recompiled("unfreeze", model):
        model.trainable = True  # no layer of a model trains that is itself frozen
        parts = list(model._flatten_layers(include_self=False))
        for part in parts:
            part.trainable = True
        for part in parts:  # afterwards, since setting a layer sets what is inside it
            if isinstance(part, keras.layers.BatchNormalization):
                part.trainable = batch_norm
        for part, trainable in kept:  # outer layers first, since setting one sets what is inside it
            part.trainable = trainable


@contextmanager
def check_frozen(model: keras.Model):
    """Raise if a frozen weight differs at the end of the `with` block from its value at the start.

    Frozen is each weight of a layer whose `trainable` is False, statistics of batch normalisation and the layers within it
    included; a weight whose own `trainable` was set to False; and what the `freeze` pattern of a `kc.layers.HubLayer` finds.
    Where nothing is frozen there is nothing to check: the block gets the paths of all that is, to look at.

    Raises:
        ValueError: If the model is not built, so that it has no weights yet.
        FrozenWeightsError: With the paths of the weights that moved.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, trainable=False, name="body")])
        >>> with check_frozen(model) as frozen:
        ...     print(len(frozen))  # model.fit(...)
        2
    """
    if not model.built:
        raise ValueError(
            f"check_frozen: the model must be built. Received: {model.name!r}. Call it on an example first."
        )
    ids = {id(weight) for layer in model._flatten_layers() for weight in _frozen(layer)}
    frozen = [weight for weight in model.weights if id(weight) in ids]
    start = [np.array(keras.ops.convert_to_numpy(weight)) for weight in frozen]
    yield [weight.path for weight in frozen]
    moved = [
        weight.path
        for weight, value in zip(frozen, start, strict=True)
        if not np.array_equal(value, keras.ops.convert_to_numpy(weight), equal_nan=True)
    ]
    if moved:
        names = join_some(moved, 10)
        raise FrozenWeightsError(
            f"check_frozen: {len(moved)} frozen weights moved: {names}. Use `freeze`, or set `trainable` before `compile`: "
            "Keras ignores later changes, and trains a layer with trainable=True within a frozen one."
        )


def _frozen(layer):
    if not layer.trainable:
        return layer.weights
    pattern = getattr(layer, "freeze", None)
    if isinstance(pattern, str):  # a HubLayer
        return [weight for weight in layer.weights if re.search(pattern, weight.name)]
    return [weight for weight in layer._trainable_variables if not weight.trainable]


def _upstream(owner, model, argument, name, whole_stage=False):
    """The layers that a named one is computed from; itself among them, or without it and the stage that it ends."""
    graph = graph_of(model)
    if graph is None:
        raise ValueError(
            f"{owner}: `{argument}` needs a functional model that is built. Received: {argument}={name!r} for {model.name!r} "
            f"of class {type(model).__name__}, of whose calls Keras keeps no graph. Set `trainable` of its layers, or {owner} "
            "a functional part of it, before `compile`."
        )
    *outer, last = find(owner, argument, graph, name).split("/")
    found = []
    for nested in outer:
        calls = [node for node in nodes_of(graph) if node.operation.name == nested]
        found += before(graph, calls)
        graph = graph_of(calls[0].operation)
    calls = [node for node in nodes_of(graph) if node.operation.name == last]
    if whole_stage:
        calls = _calls_before_stage(graph, calls)
    found += before(graph, calls) + calls
    return [node.operation for node in found if isinstance(node.operation, keras.layers.Layer)]


def _calls_before_stage(graph, calls):
    """The calls right before these or, where a stage ends in them, the end of the stage before."""
    upstream = before(graph, calls)
    if not isinstance(calls[0].operation, keras.layers.Identity):
        return upstream
    return [node for node in upstream if isinstance(node.operation, keras.layers.Identity)][-1:]
