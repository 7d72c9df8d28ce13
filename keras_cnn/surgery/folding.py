"""Batch normalisation at inference is one multiplication and one addition a channel: a convolution beside it can do both."""

from __future__ import annotations

import keras
import numpy as np
from keras import tree

from keras_cnn.surgery import kernels
from keras_cnn.surgery.foldable import Plan
from keras_cnn.surgery.graph import graph_of, remake, require_graph, rewrite, tensors_in

NO_GRAPH = "of what is in a layer Keras keeps no graph"


def _float64(variable):
    return keras.ops.convert_to_numpy(variable).astype("float64")


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """The same function at inference, with batch normalisation made part of the convolutions.

    Behind a convolution without activation (plain, depthwise, separable, transposed) or a Dense layer,
    y = γ (W x + b − μ) / √(σ² + ε) + β becomes y = W' x + b' with W' = γ W / √(σ² + ε), for each output channel. In front of
    a convolution that pads with no zeros, or of a Dense layer, the same is done for each input channel. For serving: a
    folded model is smaller and faster, but to train on, train `model` and fold again, or train `fold_frozen`.

    Jacob et al., 2018, *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*,
    arXiv:1712.05877, section 3.2.

    Args:
        model: A functional or Sequential model; nested models are folded within.

    Returns:
        A new model of the same name; `model` itself if there is nothing to fold. Convolutions with batch normalisation
        folded in are new layers of the old names, with a bias; all others are those of `model`, which is unchanged.
        What could not be folded stays: `unfolded` says why.

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

    def remade(fold):
        made.append((fold, remake(fold.layer, use_bias=True)))
        return made[-1][1]

    result = folded(model, Plan, remade)
    for fold, layer in made:
        for name, value in weights(fold).items():
            getattr(layer, name).assign(value)
    return result


def unfolded(model: keras.Model) -> dict[str, str]:
    """Which batch normalisation `fold_batch_norm` leaves as it is, and why: of a model, or of a folded one.

    Returns:
        Layer name, "inner/bn" within a nested model -> reason.

    Example:
        >>> inputs = keras.Input((8, 8, 3))
        >>> x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
        >>> unfolded(keras.Model(inputs, keras.layers.BatchNormalization(name="bn")(x)))
        {'bn': "'conv' in front of it has an activation; behind it the model ends"}
    """
    require_graph("unfolded", model)
    return _unfolded(model, "")


def _unfolded(model, prefix):
    plan = Plan(graph_of(model))
    reasons = {f"{prefix}{name}": reason for name, reason in plan.reasons.items()}
    for layer in model.layers:
        path = f"{prefix}{layer.name}/"
        if graph_of(layer) is not None and id(layer) not in plan.training:
            reasons |= _unfolded(layer, path)
        elif not isinstance(layer, keras.layers.BatchNormalization):
            what = "what is around it is called with training=True" if id(layer) in plan.training else NO_GRAPH
            within = [part for part in layer._flatten_layers() if isinstance(part, keras.layers.BatchNormalization)]
            reasons |= {f"{path}{bn.name}": what for bn in within}
    return reasons


def folded(model, plan_of, substitute, made=None):
    """A model with the batch normalisation of a plan left out; `model` itself if that is none.

    Args:
        model: A functional or Sequential model.
        plan_of: Makes the `Plan` of a graph; of a nested model too.
        substitute: Function of a `Fold`: the layer in the place of `fold.layer`.
        made: id of a model that is nested in several places -> the folded one.
    """
    made = {} if made is None else made
    if id(model) in made:
        return made[id(model)]
    graph = graph_of(model)
    plan = plan_of(graph)
    layers = {key: substitute(fold) for key, fold in plan.folds.items()}

    def step(node, args, kwargs):
        if id(node) in plan.dropped:
            return tensors_in(args, kwargs)[0]
        nested = graph_of(node.operation) is not None and id(node.operation) not in plan.training
        layer = layers.get(id(node.operation), node.operation)
        layer = folded(layer, plan_of, substitute, made) if nested else layer
        return None if layer is node.operation else layer(*args, **kwargs)

    outputs = rewrite(graph, step)
    changed = any(x is not y for x, y in zip(tree.flatten(outputs), graph.outputs, strict=True))
    made[id(model)] = keras.Model(graph.input, outputs, name=model.name) if changed else model
    return made[id(model)]


def weights(fold, numbers=np, value=_float64):
    """Name -> value of the weights of the layer that does the work of a fold.

    Args:
        fold: `Fold`.
        numbers: What to compute with: `numpy`, or `keras.ops`.
        value: Function of a variable: what `numbers` computes with in its place.
    """
    layer, kind = fold.layer, type(fold.layer)
    names = ["depthwise_kernel", "pointwise_kernel"] if kind in kernels.SEPARABLE else ["kernel"]
    *others, name = names
    kernel, bias = value(getattr(layer, name)), value(layer.bias) if layer.use_bias else 0.0
    if fold.before is not None:
        scale, shift = _affine(fold.before, numbers, value)
        taps = numbers.sum(numbers.reshape(kernel, (-1, *kernel.shape[-2:])), axis=0)
        bias = bias + numbers.matmul(shift, taps)
        kernel = kernel * scale[:, None]
    if fold.after is not None:
        scale, shift = _affine(fold.after, numbers, value)
        bias = bias * scale + shift
        if kind in kernels.TRANSPOSED:
            kernel = kernel * scale[:, None]
        elif kind in kernels.DEPTHWISE:  # of output channel c · multiplier + m the kernel is [..., c, m]
            kernel = kernel * numbers.reshape(scale, kernel.shape[-2:])
        else:
            kernel = kernel * scale
    return {**{other: value(getattr(layer, other)) for other in others}, name: kernel, "bias": bias}


def _affine(norm, numbers, value):
    """(scale, shift) by channel of batch normalisation at inference."""
    scale = 1 / numbers.sqrt(value(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        scale = scale * value(norm.gamma)
    shift = -value(norm.moving_mean) * scale
    return scale, shift + value(norm.beta) if norm.center else shift
