"""The table of all layers that the analysis knows: what each does to receptive fields, and what it costs.

A layer that is not here is followed through its `call`, so that layers written in Keras layers and `keras.ops` need no
rule; attention, squeeze-excite and stochastic depth are such layers.
"""

from __future__ import annotations

import keras

from keras_cnn import layers as ours
from keras_cnn.analysis.fields import costs
from keras_cnn.analysis.fields import layer_rules as effects
from keras_cnn.analysis.fields import op_rules as operations
from keras_cnn.analysis.fields import recurrent_rules as recurrence

_keras = keras.layers
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


def _ranks(*names):
    """keras.layers.NAME1D, 2D and 3D, as far as they exist."""
    classes = (getattr(_keras, f"{name}{rank}D", None) for name in names for rank in (1, 2, 3))
    return tuple(layer for layer in classes if layer)


# (classes, effect on fields, cost); the first row that holds a class of the layer counts.
TABLE = (
    ((_keras.InputLayer, *_IDENTITIES), effects.elementwise, costs.free),
    (
        tuple(getattr(_keras, f"Conv{rank}DTranspose") for rank in (1, 2, 3)),
        effects.transposed_convolution,
        costs.kernel_on_input,
    ),
    ((ours.ConvAdjoint1D, ours.ConvAdjoint2D, ours.ConvAdjoint3D), effects.adjoint, costs.kernel_on_input),
    (_ranks("SeparableConv"), effects.convolution, costs.separable),
    (_ranks("Conv", "DepthwiseConv"), effects.convolution, costs.kernel_on_output),
    ((*_ranks("MaxPooling", "AveragePooling"), ours.BlurPool2D), effects.pooling, costs.pooling),
    (_ranks("GlobalMaxPooling", "GlobalAveragePooling"), effects.global_pooling, costs.reading),
    (_ranks("AdaptiveMaxPooling", "AdaptiveAveragePooling"), effects.adaptive_pooling, costs.reading),
    (_ranks("ZeroPadding"), effects.padding, costs.free),
    (_ranks("Cropping"), effects.cropping, costs.free),
    ((_keras.CenterCrop,), effects.center_crop, costs.free),
    (_ranks("UpSampling"), effects.upsampling, costs.free),
    ((_keras.Resizing,), effects.resizing, costs.free),
    ((_keras.Flatten, _keras.Reshape), effects.reshape, costs.free),
    ((_keras.Permute,), effects.permute, costs.free),
    ((_keras.RepeatVector,), effects.repeat_vector, costs.free),
    ((_keras.Dense,), effects.dense, costs.dense),
    ((_keras.EinsumDense,), effects.einsum_dense, costs.einsum_dense),
    ((_keras.Embedding,), effects.embedding, costs.free),
    ((_keras.BatchNormalization, _keras.Normalization), effects.elementwise, costs.normalization),
    (
        (_keras.LayerNormalization, _keras.RMSNormalization, _keras.UnitNormalization),
        effects.normalization_over(effects.over_axis),
        costs.normalization,
    ),
    (
        (_keras.GroupNormalization,),
        effects.normalization_over(effects.over_space_and_groups),
        costs.normalization,
    ),
    ((_keras.Softmax,), effects.normalization_over(effects.over_axis), costs.activation),
    ((_keras.Activation,), effects.activation, costs.activation),
    ((_keras.ReLU, _keras.LeakyReLU, _keras.PReLU, _keras.ELU), effects.elementwise, costs.activation),
    ((_keras.Rescaling,), effects.elementwise, costs.elementwise),
    (
        (_keras.Add, _keras.Subtract, _keras.Multiply, _keras.Average, _keras.Maximum, _keras.Minimum),
        effects.merge,
        costs.merge,
    ),
    ((_keras.Concatenate,), effects.concatenate, costs.free),
    (_ranks("ConvLSTM"), recurrence.convolutional_effect, recurrence.convolutional_cost),
    ((_keras.RNN, _keras.Bidirectional), recurrence.effect, recurrence.cost),
)


def rule(operation):
    """(effect on fields, cost) of a layer or an operation; None if it is not known."""
    if not isinstance(operation, keras.layers.Layer):
        effect = operations.effect(operation)
        return effect and (effect, costs.operation)
    # A subclass from elsewhere may compute something else: it is followed, not guessed.
    cell = getattr(operation, "cell", None)
    if any(map(_is_foreign, (operation, cell, *getattr(cell, "cells", ())))):
        return None
    found = next((row[1:] for row in TABLE if isinstance(operation, row[0])), None)
    if isinstance(operation, _keras.Bidirectional) and rule(operation.forward_layer) != found:
        return None
    return found


def _is_foreign(layer):
    methods = (getattr(type(layer), name, None) for name in ("call", "convolution_op"))
    return any(method and not method.__module__.startswith(("keras.", "keras_cnn.")) for method in methods)
