"""Freezing that holds: batch normalisation included, after `compile` too, and with a check that no frozen weight changed.

Calling a layer with `training=False` does not freeze its batch normalisation, since `fit` overrides it; `trainable = False`
on the layer does (Keras then runs it in inference mode). So these functions set `trainable`, and compile again where Keras
has read it already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np

from keras_cnn.arguments import join_some
from keras_cnn.keras_internals import own_trainable_variables, sublayers
from keras_cnn.surgery.graph import graph_of, nodes_of
from keras_cnn.surgery.layer_paths import find_path, upstream_nodes
from keras_cnn.training.recompiling import recompile_keeping_optimizer


class FrozenWeightsError(RuntimeError):
    """Training has changed frozen weights, so the result is not what was asked for."""


def freeze(model: keras.Model, up_to: str | None = None) -> None:
    """Make layers untrainable, batch normalisation statistics included.

    On a compiled model, training continues as before with the layers that stay trainable: the model is compiled again with
    the same loss, metrics and options, and with a new optimizer that has the slots (momentum and the like) of the old one.

    Args:
        model: The model that is trained; freezing a part of it has no effect on a compiled model around it.
        up_to: Name of a stage or layer, "backbone/stage4" or "stage4" in a nested model: it and every layer that it is
            computed from are frozen. None: the whole model.

    Raises:
        ValueError: If the model has no such layer; if it is not functional, so that only the whole can be frozen; if it is
            compiled and cannot be compiled again. Nothing is changed then.
    """
    layers = model.layers if up_to is None else _upstream_layers("freeze", model, "up_to", up_to)
    with recompile_keeping_optimizer("freeze", model):
        # Each part separately: on TensorFlow, a layer that is already frozen ignores the same value and skips its sublayers.
        for part in (part for layer in layers for part in sublayers(layer)):
            part.trainable = False


def unfreeze(model: keras.Model, starting_at: str | None = None, batch_norm: bool = False) -> None:
    """Make layers trainable again; their batch normalisation stays frozen unless `batch_norm` is True.

    A stage ends in a `keras.layers.Identity` of its name and begins after the stage before it. A compiled model is compiled
    again as by `freeze`; variables that were not trained before start with empty slots.

    Args:
        model: The model that is trained.
        starting_at: Name of a stage or layer, as in `freeze`: it and every layer after it become trainable, the others are
            left as they are. None: the whole model.
        batch_norm: Whether to train batch normalisation too. Small batches and few images spoil its statistics, and
            without XLA a step takes longer, for Keras normalises by many small operations. Within a `kc.layers.HubLayer`,
            which has one switch for all its layers, it trains with the rest.

    Raises:
        ValueError: As `freeze`.
    """
    before = []
    if starting_at is not None:
        before = _upstream_layers("unfreeze", model, "starting_at", starting_at, whole_stage=True)
    unchanged = [(part, part.trainable) for layer in before for part in sublayers(layer)]
    with recompile_keeping_optimizer("unfreeze", model):
        model.trainable = True  # no layer trains in a model that is itself frozen
        parts = sublayers(model, include_self=False)
        for part in parts:
            part.trainable = True
        for part in parts:  # in a second pass, since setting a layer sets its sublayers
            if isinstance(part, keras.layers.BatchNormalization):
                part.trainable = batch_norm
        for part, trainable in unchanged:  # outer layers first, since setting a layer sets its sublayers
            part.trainable = trainable


@contextmanager
def check_frozen(model: keras.Model) -> Iterator[list[str]]:
    """Raise if a frozen weight differs at the end of the `with` block from its value at the start.

    Frozen is each weight of a layer whose `trainable` is False, statistics of batch normalisation and the layers within it
    included; a weight whose own `trainable` is False; and every weight that the `freeze` pattern of a `kc.layers.HubLayer`
    matches. The block gets the paths of all frozen weights; where the list is empty, nothing is checked.

    Raises:
        ValueError: If the model is not built, so that it has no weights yet.
        FrozenWeightsError: With the paths of the weights that changed.

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
    ids = {id(weight) for layer in sublayers(model) for weight in _frozen_weights(layer)}
    frozen = [weight for weight in model.weights if id(weight) in ids]
    start = [np.array(keras.ops.convert_to_numpy(weight)) for weight in frozen]
    yield [weight.path for weight in frozen]
    changed = [
        weight.path
        for weight, value in zip(frozen, start, strict=True)
        if not np.array_equal(value, keras.ops.convert_to_numpy(weight), equal_nan=True)
    ]
    if changed:
        names = join_some(changed, 10)
        raise FrozenWeightsError(
            f"check_frozen: {len(changed)} frozen weights changed: {names}. Use `freeze`, or set `trainable` before "
            "`compile`: Keras ignores later changes, and trains a layer with trainable=True within a frozen one."
        )


def _frozen_weights(layer):
    if not layer.trainable:
        return layer.weights
    pattern = getattr(layer, "freeze", None)
    if isinstance(pattern, str):  # a HubLayer
        return [weight for weight in layer.weights if re.search(pattern, weight.name)]
    return [weight for weight in own_trainable_variables(layer) if not weight.trainable]


def _upstream_layers(owner, model, argument, name, whole_stage=False):
    """The layers that the named one is computed from, and itself; with `whole_stage`, those before the stage that it ends."""
    graph = graph_of(model)
    if graph is None:
        raise ValueError(
            f"{owner}: `{argument}` needs a functional model that is built. Received: {argument}={name!r} for {model.name!r} "
            f"of class {type(model).__name__}, whose calls Keras keeps no graph of. Set `trainable` of its layers, or {owner} "
            "a functional part of it, before `compile`."
        )
    *outer, last = find_path(owner, argument, graph, name).split("/")
    found = []
    for nested in outer:
        nodes = [node for node in nodes_of(graph) if node.operation.name == nested]
        found += upstream_nodes(graph, nodes)
        graph = graph_of(nodes[0].operation)
    nodes = [node for node in nodes_of(graph) if node.operation.name == last]
    if whole_stage:
        nodes = _nodes_before_stage(graph, nodes)
    found += upstream_nodes(graph, nodes) + nodes
    return [node.operation for node in found if isinstance(node.operation, keras.layers.Layer)]


def _nodes_before_stage(graph, nodes):
    """The calls that these are computed from or, where a stage ends in these, the end of the stage before."""
    upstream = upstream_nodes(graph, nodes)
    if not isinstance(nodes[0].operation, keras.layers.Identity):
        return upstream
    return [node for node in upstream if isinstance(node.operation, keras.layers.Identity)][-1:]
