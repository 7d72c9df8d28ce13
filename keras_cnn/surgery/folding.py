"""Batch normalisation folded into a neighbouring layer: at inference it is a multiplication and an addition per channel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_cnn.keras_internals import sublayers
from keras_cnn.surgery import layer_kinds
from keras_cnn.surgery.fold_plan import Fold, FoldPlan
from keras_cnn.surgery.graph import clone_layer, graph_of, require_graph, rewrite, tensors_in


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """The same function at inference, with batch normalisation made part of the convolutions.

    After a convolution without activation (plain, depthwise, separable, transposed) or a Dense layer,
    y = γ (W x + b − μ) / √(σ² + ε) + β becomes y = W' x + b' with W' = γ W / √(σ² + ε), per output channel. Before
    a convolution that pads with no zeros, or before a Dense layer, the same is done per input channel. For serving: a
    folded model is smaller and faster, but to train on, train `model` and fold again, or train `fold_frozen`.

    Jacob et al., 2018, *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*,
    arXiv:1712.05877, section 3.2.

    Args:
        model: A functional or Sequential model; nested models are folded too.

    Returns:
        A new model of the same name; `model` itself if there is nothing to fold. Layers that absorb batch normalisation
        are new layers of the old names, with a bias; all others are those of `model`, which is unchanged.
        What cannot be folded stays: `unfolded_batch_norms` says why.

    Raises:
        TypeError, ValueError: If the model is neither functional nor Sequential, or is not built.

    Example:
        >>> inputs = keras.Input((8, 8, 3))
        >>> x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv")(inputs)
        >>> model = keras.Model(inputs, keras.layers.ReLU(name="relu")(keras.layers.BatchNormalization()(x)))
        >>> [layer.name for layer in fold_batch_norm(model).layers][1:]
        ['conv', 'relu']
    """
    require_graph("fold_batch_norm", model)
    made = []

    def with_bias(fold):
        made.append((fold, clone_layer(fold.layer, use_bias=True)))
        return made[-1][1]

    result = apply_plan(model, FoldPlan, with_bias)
    for fold, layer in made:
        for name, value in folded_weights(fold).items():
            getattr(layer, name).assign(value)
    return result


def unfolded_batch_norms(model: keras.Model) -> dict[str, str]:
    """Which batch normalisation `fold_batch_norm` leaves as it is, and why: in a model, or in a folded one.

    Returns:
        Layer name, "inner/bn" within a nested model -> reason.

    Example:
        >>> inputs = keras.Input((8, 8, 3))
        >>> x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
        >>> unfolded_batch_norms(keras.Model(inputs, keras.layers.BatchNormalization(name="bn")(x)))
        {'bn': "'conv' before it has an activation; the model ends with it"}
    """
    require_graph("unfolded_batch_norms", model)
    return _unfolded(model, "")


def _unfolded(model, prefix):
    plan = FoldPlan(graph_of(model))
    reasons = {f"{prefix}{name}": reason for name, reason in plan.reasons.items()}
    for layer in model.layers:
        path = f"{prefix}{layer.name}/"
        if graph_of(layer) is not None and id(layer) not in plan.training:
            reasons |= _unfolded(layer, path)
        elif not isinstance(layer, keras.layers.BatchNormalization):
            in_training = "the model around it is called with training=True"
            reason = in_training if id(layer) in plan.training else "Keras keeps no graph of the layers within a layer"
            norms = [part for part in sublayers(layer) if isinstance(part, keras.layers.BatchNormalization)]
            reasons |= {f"{path}{norm.name}": reason for norm in norms}
    return reasons


def apply_plan(
    model: keras.Model,
    make_plan: Callable[[Any], FoldPlan],
    replace: Callable[[Fold], keras.layers.Layer],
    done: dict[int, keras.Model] | None = None,
) -> keras.Model:
    """A model without the batch normalisation that a plan folds; `model` itself if the plan folds none.

    Args:
        model: A functional or Sequential model.
        make_plan: Makes the `FoldPlan` of a graph; of a nested model too.
        replace: Function of a `Fold`: the layer that replaces `fold.layer`.
        done: id of a model that is nested in several places -> the folded one.
    """
    done = {} if done is None else done
    if id(model) in done:
        return done[id(model)]
    graph = graph_of(model)
    plan = make_plan(graph)
    layers = {key: replace(fold) for key, fold in plan.folds.items()}

    def step(node, args, kwargs):
        if id(node) in plan.folded_nodes:
            return tensors_in(args, kwargs)[0]
        nested = graph_of(node.operation) is not None and id(node.operation) not in plan.training
        layer = layers.get(id(node.operation), node.operation)
        layer = apply_plan(layer, make_plan, replace, done) if nested else layer
        return None if layer is node.operation else layer(*args, **kwargs)

    outputs = rewrite(graph, step)
    changed = any(x is not y for x, y in zip(tree.flatten(outputs), graph.outputs, strict=True))
    done[id(model)] = keras.Model(graph.input, outputs, name=model.name) if changed else model
    return done[id(model)]


def _float64(variable):
    return keras.ops.convert_to_numpy(variable).astype("float64")


def folded_weights(fold: Fold, ops: Any = np, value: Callable[[Any], Any] = _float64) -> dict[str, Any]:
    """Name -> value of the weights of a layer after a fold.

    Args:
        fold: The layer and its batch normalisation.
        ops: The module to compute with: `numpy`, or `keras.ops`.
        value: Function that converts a variable for `ops`.
    """
    layer, kind = fold.layer, type(fold.layer)
    names = ["depthwise_kernel", "pointwise_kernel"] if kind in layer_kinds.SEPARABLE else ["kernel"]
    *others, name = names
    kernel, bias = value(getattr(layer, name)), value(layer.bias) if layer.use_bias else 0.0
    if fold.before is not None:
        scale, shift = _scale_and_shift(fold.before, ops, value)
        taps = ops.sum(ops.reshape(kernel, (-1, *kernel.shape[-2:])), axis=0)
        bias = bias + ops.matmul(shift, taps)
        kernel = kernel * scale[:, None]
    if fold.after is not None:
        scale, shift = _scale_and_shift(fold.after, ops, value)
        bias = bias * scale + shift
        if kind in layer_kinds.TRANSPOSED:
            kernel = kernel * scale[:, None]
        elif kind in layer_kinds.DEPTHWISE:  # the kernel of output channel c · multiplier + m is [..., c, m]
            kernel = kernel * ops.reshape(scale, kernel.shape[-2:])
        else:
            kernel = kernel * scale
    return {**{other: value(getattr(layer, other)) for other in others}, name: kernel, "bias": bias}


def _scale_and_shift(norm, ops, value):
    """Per channel, what batch normalisation at inference multiplies by and adds."""
    scale = 1 / ops.sqrt(value(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        scale = scale * value(norm.gamma)
    shift = -value(norm.moving_mean) * scale
    return scale, shift + value(norm.beta) if norm.center else shift
