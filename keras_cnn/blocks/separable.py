"""Convolutions in two parts: a depthwise one within each channel, 1 x 1 ones across channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import keras

from keras_cnn import arguments
from keras_cnn.blocks.convolution import conv_norm_act, norm_act
from keras_cnn.blocks.plumbing import (
    DepthwiseBlockOptions,
    apply_step,
    channel_axis,
    check_layer_factory,
    check_options,
    layer_name,
    pointwise_options,
)
from keras_cnn.blocks.shortcuts import add


def depthwise_separable(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int | tuple[int, int] = 3,
    strides: int | tuple[int, int] = 1,
    *,
    depth_multiplier: int = 1,
    intermediate: bool = True,
    name: str | None = None,
    **options: Unpack[DepthwiseBlockOptions],
) -> keras.KerasTensor:
    """Depthwise n x n convolution, then 1 x 1 convolution.

    y = P ∗ (D ∗ x): D has one n x n kernel (or `depth_multiplier` of them) for each channel, P mixes the channels.
    Howard et al., 2017, MobileNets, arXiv:1704.04861, eqs. 3-5 and figure 3 (right); without normalisation and
    activation between the two, Chollet, 2017, Xception, arXiv:1610.02357, section 4.7.

    Args:
        x: `(batch, height, width, channels)`.
        filters: Channels of the output.
        kernel_size: int | tuple[int, int] of the depthwise convolution, an int or `(height, width)`.
        strides: Strides of the depthwise convolution, an int or `(height, width)`.
        depth_multiplier: Depthwise kernels per channel.
        intermediate: Whether normalisation and activation also follow the depthwise convolution (MobileNet).
            False: they follow only the 1 x 1 convolution (Xception, `keras.layers.SeparableConv2D`).
        name: Prefix of the layers: `name_depthwise_conv`, `name_pointwise_conv`, ...
        options: `norm`, `activation` and further options as in `conv_norm_act`, without `groups` and `padding_mode`,
            which a depthwise convolution does not have. `padding` and `dilation_rate` apply to the depthwise
            convolution.

    Returns:
        `(batch, new_height, new_width, filters)`.
        Parameters: n · m · channels · depth_multiplier + channels · depth_multiplier · filters, plus normalisation.

    Raises:
        ValueError: If the window does not fit on the map, with the arithmetic; if an option is unknown.

    Example:
        >>> x = keras.Input((32, 32, 16))
        >>> depthwise_separable(x, 64, strides=2).shape
        (None, 16, 16, 64)
    """
    check_options(depthwise_separable, options, DepthwiseBlockOptions, "depthwise")
    given: dict[str, Any] = {**options, "depth_multiplier": depth_multiplier, "name": layer_name(name, "depthwise")}
    if not intermediate:
        given |= {"norm": None, "activation": None, "use_bias": False}
    x = depthwise("depthwise_separable", x, kernel_size, strides, **given)
    return conv_norm_act(x, filters, 1, name=layer_name(name, "pointwise"), **pointwise_options({**options}))


def inverted_residual(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int | tuple[int, int] = 3,
    strides: int | tuple[int, int] = 1,
    *,
    expansion: float = 6,
    squeeze_excite: Callable[..., keras.layers.Layer] | None = None,
    stochastic_depth: float = 0.0,
    name: str | None = None,
    **options: Unpack[DepthwiseBlockOptions],
) -> keras.KerasTensor:
    """Widen by 1 x 1, convolve depthwise, narrow by 1 x 1 without activation, add the input where the shape allows.

    y = P ∗ a(D ∗ a(E ∗ x)), plus x if strides are 1 and the channels do not change. Sandler et al., 2018,
    MobileNetV2, arXiv:1801.04381, table 1 and figure 4; with squeeze-excite, Howard et al., 2019, MobileNetV3,
    arXiv:1905.02244, figure 4, and Tan & Le, 2019, EfficientNet, arXiv:1905.11946.

    Args:
        x: `(batch, height, width, channels)`.
        filters: Channels of the output.
        kernel_size: int | tuple[int, int] of the depthwise convolution, an int or `(height, width)`.
        strides: Strides of the depthwise convolution, an int or `(height, width)`.
        expansion: Inner width divided by `channels`. 1: no widening convolution, as in the first block of MobileNetV2.
        squeeze_excite: Makes a layer that follows the depthwise convolution; called as `squeeze_excite(name=...)`, such
            as `functools.partial(kc.layers.SqueezeExcite, ratio=4)`. Its ratio refers to the inner width: what
            EfficientNet calls a quarter of the block's input is ratio 4 · expansion. None: no such layer.
        stochastic_depth: Probability in [0, 1) that the branch of a sample is dropped during training. It applies only
            where there is a sum.
        name: Prefix of the layers: `name_expand_conv`, `name_depthwise_conv`, `name_project_conv`, `name_add`, ...
        options: As in `depthwise_separable`, but `activation` is "relu6" by default.

    Returns:
        `(batch, new_height, new_width, filters)`. With t = expansion · channels,
        parameters: channels · t + n · m · t + t · filters, plus normalisation and squeeze-excite.

    Raises:
        ValueError: If input and branch are to be added and differ in shape, with both shapes; if an option is unknown.

    Example:
        >>> x = keras.Input((32, 32, 16))
        >>> inverted_residual(x, 24, strides=2).shape
        (None, 16, 16, 24)
    """
    owner = "inverted_residual"
    check_options(inverted_residual, options, DepthwiseBlockOptions, "depthwise")
    given: dict[str, Any] = {"activation": "relu6", **options}
    strides = arguments.pair(owner, "strides", strides)
    stochastic_depth = arguments.fraction(owner, "stochastic_depth", stochastic_depth)
    channels = x.shape[channel_axis()]
    y = x
    if expansion != 1:
        inner = round(expansion * channels)
        y = conv_norm_act(y, inner, 1, name=layer_name(name, "expand"), **pointwise_options(given))
    y = depthwise(owner, y, kernel_size, strides, name=layer_name(name, "depthwise"), **given)
    if squeeze_excite is not None:
        example = "functools.partial(kc.layers.SqueezeExcite, ratio=4)"
        check_layer_factory(owner, "squeeze_excite", squeeze_excite, example)
        y = squeeze_excite(name=layer_name(name, "squeeze_excite"))(y)
    project = pointwise_options(given) | {"activation": None}
    y = conv_norm_act(y, filters, 1, name=layer_name(name, "project"), **project)
    if channels != filters or strides != (1, 1):
        return y
    return add(owner, x, y, stochastic_depth, name)


def depthwise(
    owner: str,
    x: keras.KerasTensor,
    kernel_size: int | tuple[int, int],
    strides: int | tuple[int, int] = 1,
    *,
    depth_multiplier: int = 1,
    norm: Callable[..., keras.layers.Layer] | None = keras.layers.BatchNormalization,
    activation: str | Callable | None = "relu",
    name: str | None = None,
    padding: str | int | tuple[int | tuple[int, int], ...] = "same",
    **options: Any,
) -> keras.KerasTensor:
    """Depthwise convolution, normalisation, activation: `conv_norm_act` within each channel."""
    amounts = arguments.padding(owner, padding, 2)
    if not isinstance(amounts, str):  # keras.layers.DepthwiseConv2D takes no numbers
        x = keras.layers.ZeroPadding2D(amounts, name=layer_name(name, "pad"))(x)
    # Keras calls the kernel of this layer `depthwise`: kernel_regularizer is depthwise_regularizer here.
    given = {
        "use_bias": norm is None,
        **{key.replace("kernel_", "depthwise_"): value for key, value in options.items()},
    }
    layer = keras.layers.DepthwiseConv2D(
        kernel_size,
        strides,
        amounts if isinstance(amounts, str) else "valid",
        depth_multiplier=depth_multiplier,
        name=layer_name(name, "conv"),
        **given,
    )
    return norm_act(apply_step(layer, x), norm, activation, name)
