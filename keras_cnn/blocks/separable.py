"""Convolutions taken apart: a depthwise one within each channel, 1 x 1 ones across channels."""

from __future__ import annotations

import keras

from keras_cnn import arguments
from keras_cnn.blocks.convolution import (
    call,
    channel_axis,
    conv_norm_act,
    join,
    makes_layers,
    norm_act,
    pointwise,
    refuse,
)
from keras_cnn.blocks.shortcuts import add


def depthwise_separable(
    x,
    filters: int,
    kernel_size=3,
    strides=1,
    *,
    multiplier: int = 1,
    intermediate: bool = True,
    name: str | None = None,
    **options,
):
    """Depthwise n x n convolution, then 1 x 1 convolution.

    y = P ∗ (D ∗ x): D has one n x n kernel (or `multiplier` of them) for each channel, P mixes the channels. Howard
    et al., 2017, MobileNets, arXiv:1704.04861, eqs. 3-5 and figure 3 (right); without normalisation and activation
    between the two, Chollet, 2017, Xception, arXiv:1610.02357, section 4.7.

    Args:
        x: `(batch, height, width, channels)`.
        filters: Channels of the output.
        kernel_size: Window of the depthwise convolution, an int or `(height, width)`.
        strides: Of the depthwise convolution, an int or `(height, width)`.
        multiplier: Depthwise kernels for each channel.
        intermediate: Whether normalisation and activation also stand between the two convolutions (MobileNet).
            False: only behind the second (Xception, `keras.layers.SeparableConv2D`).
        name: Prefix of the layers: `name_depthwise_conv`, `name_pointwise_conv`, ...
        options: As in `conv_norm_act`, without `groups` and `padding_mode`, which a depthwise convolution does not have.
            `padding` and `dilation_rate` go to the depthwise convolution.

    Returns:
        `(batch, new_height, new_width, filters)`.
        Parameters: n · m · channels · multiplier + channels · multiplier · filters, plus normalisation.

    Raises:
        ValueError: If the window does not fit on the map, with the arithmetic; if an option is not one of these.
    """
    between = {} if intermediate else {"norm": None, "activation": None, "use_bias": False}
    given = options | between | {"multiplier": multiplier, "name": join(name, "depthwise")}
    x = depthwise("depthwise_separable", x, kernel_size, strides, **given)
    return conv_norm_act(x, filters, 1, name=join(name, "pointwise"), **pointwise(options))


def inverted_residual(
    x,
    filters: int,
    kernel_size=3,
    strides=1,
    *,
    expansion: float = 6,
    squeeze_excite=None,
    stochastic_depth: float = 0.0,
    name: str | None = None,
    **options,
):
    """Widen by 1 x 1, convolve depthwise, narrow by 1 x 1 without activation, add the input where the shape allows.

    y = P ∗ a(D ∗ a(E ∗ x)), plus x if strides are 1 and the channels do not change. Sandler et al., 2018,
    MobileNetV2, arXiv:1801.04381, table 1 and figure 4; with squeeze-excite, Howard et al., 2019, MobileNetV3,
    arXiv:1905.02244, figure 4, and Tan & Le, 2019, EfficientNet, arXiv:1905.11946.

    Args:
        x: `(batch, height, width, channels)`.
        filters: Channels of the output.
        kernel_size: Window of the depthwise convolution.
        strides: Of the depthwise convolution.
        expansion: Inner width divided by `channels`. 1: no widening convolution, as in the first block of MobileNetV2.
        squeeze_excite: Makes the layer behind the depthwise convolution; called as `squeeze_excite(name=...)`, such as
            `functools.partial(kc.layers.SqueezeExcite, ratio=4)`. Its ratio is that of the inner width: what
            EfficientNet calls a quarter of the block's input is ratio 4 · expansion. None: without.
        stochastic_depth: Rate at which a sample's branch is left out during training, in [0, 1); only where there is
            a sum.
        name: Prefix of the layers: `name_expand_conv`, `name_depthwise_conv`, `name_project_conv`, `name_add`, ...
        options: As in `depthwise_separable`, but `activation` is "relu6" unless given.

    Returns:
        `(batch, new_height, new_width, filters)`. With t = expansion · channels,
        parameters: channels · t + n · m · t + t · filters, plus normalisation and squeeze-excite.

    Raises:
        ValueError: If input and branch are to be added and differ in shape, both written out; if an option is not one
            of these.
    """
    owner, options = "inverted_residual", {"activation": "relu6"} | options
    strides = arguments.per_axis(owner, "strides", strides, 2)
    stochastic_depth = arguments.fraction(owner, "stochastic_depth", stochastic_depth)
    channels = x.shape[channel_axis()]
    y = x
    if expansion != 1:
        y = conv_norm_act(y, round(expansion * channels), 1, name=join(name, "expand"), **pointwise(options))
    y = depthwise(owner, y, kernel_size, strides, name=join(name, "depthwise"), **options)
    if squeeze_excite is not None:
        makes_layers(owner, "squeeze_excite", squeeze_excite, "functools.partial(kc.layers.SqueezeExcite, ratio=4)")
        y = squeeze_excite(name=join(name, "squeeze_excite"))(y)
    y = conv_norm_act(y, filters, 1, name=join(name, "project"), **pointwise(options) | {"activation": None})
    if channels != filters or strides != (1, 1):
        return y
    return add(owner, x, y, stochastic_depth, name)


def depthwise(
    owner,
    x,
    kernel_size,
    strides=1,
    *,
    multiplier=1,
    norm=keras.layers.BatchNormalization,
    activation="relu",
    name=None,
    padding="same",
    **options,
):
    """Depthwise convolution, normalisation, activation: `conv_norm_act` within each channel."""
    refuse(owner, options, ("groups", "padding_mode"), "depthwise")
    if not isinstance(padding, str):  # which keras.layers.DepthwiseConv2D does not take
        amounts = arguments.pairs(owner, "padding", padding, 2, words=("valid", "same"))
        x = keras.layers.ZeroPadding2D(amounts, name=join(name, "pad"))(x)
        padding = "valid"
    # Keras calls the kernel of this layer `depthwise`: kernel_regularizer is depthwise_regularizer here.
    options = {key.replace("kernel_", "depthwise_"): value for key, value in options.items()}
    options = {"use_bias": norm is None} | options
    layer = keras.layers.DepthwiseConv2D(
        kernel_size, strides, padding, depth_multiplier=multiplier, name=join(name, "conv"), **options
    )
    return norm_act(call(layer, x), norm, activation, name)
