"""The layers that the analysis knows: what each does to receptive fields, and what it costs.

A layer without a rule is followed through its `call`. So layers written in Keras layers and `keras.ops` need no rule;
attention and squeeze-and-excitation are such layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras

from keras_cnn import layers as ours
from keras_cnn.analysis.fields import costs, layer_rules, op_rules, recurrent_rules
from keras_cnn.analysis.fields.tensor_field import Fields, RuleResult
from keras_cnn.analysis.tracing import Call

_keras = keras.layers


class Rule(NamedTuple):
    """What is known of a layer or an operation.

    Attributes:
        field: Function of a call and the fields of its inputs: gives the field of its output, as in `layer_rules`.
        cost: Function of a call: gives its `Cost`.
    """

    field: Callable[[Call, Fields], RuleResult]
    cost: Callable[[Call], costs.Cost]


# Augmentation does nothing at inference. (RandomCrop neither, although it says that its output is smaller.)
_AUGMENTATION = tuple(
    layer
    for name, layer in vars(_keras).items()
    if name.startswith("Random") and isinstance(layer, type) and layer is not _keras.RandomCrop
)
_IDENTITIES = (
    _keras.ActivityRegularization,
    _keras.AlphaDropout,
    _keras.AugMix,
    _keras.CutMix,
    _keras.Dropout,
    _keras.Equalization,
    _keras.GaussianDropout,
    _keras.GaussianNoise,
    _keras.Identity,
    _keras.Masking,
    _keras.MixUp,
    _keras.RandAugment,
    _keras.Solarization,
    _keras.SpatialDropout1D,
    _keras.SpatialDropout2D,
    _keras.SpatialDropout3D,
    ours.StochasticDepth,
    *_AUGMENTATION,
)


def _of_all_ranks(*names: str) -> tuple[type, ...]:
    """keras.layers.NAME1D, 2D and 3D, as far as they exist."""
    classes = (getattr(_keras, f"{name}{rank}D", None) for name in names for rank in (1, 2, 3))
    return tuple(layer for layer in classes if layer)


# (classes, rule for fields, cost); the first entry that holds a class of the layer counts.
_TABLE = (
    ((_keras.InputLayer, *_IDENTITIES), layer_rules.elementwise, costs.free),
    (
        (_keras.Conv1DTranspose, _keras.Conv2DTranspose, _keras.Conv3DTranspose),
        layer_rules.transposed_convolution,
        costs.kernel_on_input,
    ),
    ((ours.ConvAdjoint1D, ours.ConvAdjoint2D, ours.ConvAdjoint3D), layer_rules.adjoint, costs.kernel_on_input),
    (_of_all_ranks("SeparableConv"), layer_rules.convolution, costs.separable),
    (_of_all_ranks("Conv", "DepthwiseConv"), layer_rules.convolution, costs.kernel_on_output),
    ((*_of_all_ranks("MaxPooling", "AveragePooling"), ours.BlurPool2D), layer_rules.pooling, costs.pooling),
    (_of_all_ranks("GlobalMaxPooling", "GlobalAveragePooling"), layer_rules.global_pooling, costs.one_per_input),
    (_of_all_ranks("AdaptiveMaxPooling", "AdaptiveAveragePooling"), layer_rules.adaptive_pooling, costs.one_per_input),
    (_of_all_ranks("ZeroPadding"), layer_rules.padding, costs.free),
    (_of_all_ranks("Cropping"), layer_rules.cropping, costs.free),
    ((_keras.CenterCrop,), layer_rules.center_crop, costs.free),
    (_of_all_ranks("UpSampling"), layer_rules.upsampling, costs.free),
    ((_keras.Resizing,), layer_rules.resizing, costs.free),
    ((_keras.Flatten, _keras.Reshape), layer_rules.reshape, costs.free),
    ((_keras.Permute,), layer_rules.permute, costs.free),
    ((_keras.RepeatVector,), layer_rules.repeat_vector, costs.free),
    ((_keras.Dense,), layer_rules.dense, costs.dense),
    ((_keras.EinsumDense,), layer_rules.einsum_dense, costs.einsum_dense),
    ((_keras.Embedding,), layer_rules.embedding, costs.free),
    ((_keras.BatchNormalization, _keras.Normalization), layer_rules.elementwise, costs.normalization),
    (
        (_keras.LayerNormalization, _keras.RMSNormalization, _keras.UnitNormalization),
        layer_rules.normalization_over(layer_rules.own_axis),
        costs.normalization,
    ),
    (
        (_keras.GroupNormalization,),
        layer_rules.normalization_over(layer_rules.all_but_batch),
        costs.normalization,
    ),
    ((_keras.Softmax,), layer_rules.normalization_over(layer_rules.own_axis), costs.activation),
    ((_keras.Activation,), layer_rules.activation, costs.activation),
    ((_keras.ReLU, _keras.LeakyReLU, _keras.PReLU, _keras.ELU), layer_rules.elementwise, costs.activation),
    ((_keras.Rescaling,), layer_rules.elementwise, costs.elementwise),
    (
        (_keras.Add, _keras.Subtract, _keras.Multiply, _keras.Average, _keras.Maximum, _keras.Minimum),
        layer_rules.merging_layer,
        costs.merging_layer,
    ),
    ((_keras.Concatenate,), layer_rules.concatenation, costs.free),
    (_of_all_ranks("ConvLSTM"), recurrent_rules.convolutional_field, recurrent_rules.convolutional_cost),
    ((_keras.RNN, _keras.Bidirectional), recurrent_rules.recurrent_field, recurrent_rules.recurrent_cost),
)


def find_rule(operation: keras.Operation) -> Rule | None:
    """The rule of a layer or an operation; None if it is not known."""
    if not isinstance(operation, keras.layers.Layer):
        field = op_rules.find_op_rule(operation)
        return field and Rule(field, costs.operation)
    # A subclass from elsewhere may compute something else: it is followed, not guessed.
    cell = getattr(operation, "cell", None)
    if any(map(_is_foreign, (operation, cell, *getattr(cell, "cells", ())))):
        return None
    found = next((Rule(field, cost) for classes, field, cost in _TABLE if isinstance(operation, classes)), None)
    if isinstance(operation, _keras.Bidirectional) and find_rule(operation.forward_layer) != found:
        return None
    return found


def _is_foreign(layer):
    methods = (getattr(type(layer), name, None) for name in ("call", "convolution_op"))
    return any(method and not method.__module__.startswith(("keras.", "keras_cnn.")) for method in methods)
