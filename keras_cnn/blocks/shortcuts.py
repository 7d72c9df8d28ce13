"""Residual blocks: the input is added to the output of a few convolutions."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Unpack

import keras

from keras_cnn import arguments
from keras_cnn.blocks.convolution import conv_norm_act, norm_act
from keras_cnn.blocks.plumbing import (
    BlockOptions,
    channel_axis,
    check_options,
    layer_name,
    pointwise_options,
)
from keras_cnn.layers import StochasticDepth

SHORTCUTS = (None, "identity", "projection")


class _Convolution(NamedTuple):
    filters: int
    kernel_size: int
    strides: int | tuple[int, int]


def residual(
    x: keras.KerasTensor,
    filters: int,
    strides: int | tuple[int, int] = 1,
    *,
    num_convolutions: int = 2,
    shortcut: Literal["identity", "projection"] | None = None,
    preactivate: bool = False,
    stochastic_depth: float = 0.0,
    name: str | None = None,
    **options: Unpack[BlockOptions],
) -> keras.KerasTensor:
    """Two or three 3 x 3 convolutions with a shortcut: the basic block of ResNet-18 and ResNet-34.

    y = a(S(x) + F(x)), F = conv, norm, a, conv, norm (He et al., 2015, arXiv:1512.03385, eqs. 1-2 and figure 5 left),
    or with `preactivate` y = S(x) + F(x), F = norm, a, conv, norm, a, conv (He et al., 2016, arXiv:1603.05027, figure
    4e). After the last pre-activated block, before the head, the network needs what the blocks omit:
    `keras.layers.BatchNormalization()`, then `keras.layers.ReLU()`. Differs from the paper in: the shortcut of a
    pre-activated block that changes shape starts after the first activation, as in the authors' code.

    Args:
        x: `(batch, height, width, channels)`.
        filters: Channels of the output.
        strides: Strides of the first convolution and of the shortcut, an int or `(height, width)`.
        num_convolutions: Number of 3 x 3 convolutions, at least 1; 2 or 3 in the literature.
        shortcut: "identity"; "projection", a 1 x 1 convolution with normalisation; None: identity where the shape
            stays the same, projection elsewhere (option B of the paper; "projection" everywhere is its option C).
        preactivate: Whether normalisation and activation come before each convolution, and none after the sum.
        stochastic_depth: Probability in [0, 1) that the branch F of a sample is dropped during training
            (arXiv:1603.09382).
        name: Prefix of the layers: `name_1_conv`, ..., `name_shortcut_conv`, `name_add`, `name_act`.
        options: `norm`, `activation` and further options as in `conv_norm_act`. `padding`, `padding_mode`,
            `dilation_rate` and `groups` do not apply to the projection.

    Returns:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`.
        Parameters: 9 · (channels · filters + (num_convolutions - 1) · filters²) / groups, plus channels · filters for a
        projection, plus normalisation.

    Raises:
        ValueError: If the shapes of shortcut and branch differ, with both shapes; if an option is unknown.

    Example:
        >>> x = keras.Input((32, 32, 16))
        >>> residual(x, 32, strides=2).shape
        (None, 16, 16, 32)
    """
    check_options(residual, options, BlockOptions)
    arguments.integer("residual", "num_convolutions", num_convolutions)
    strides = arguments.pair("residual", "strides", strides)
    convolutions = [_Convolution(filters, 3, strides)] + [_Convolution(filters, 3, 1)] * (num_convolutions - 1)
    return _residual("residual", x, convolutions, strides, shortcut, preactivate, stochastic_depth, name, {**options})


def bottleneck(
    x: keras.KerasTensor,
    filters: int,
    strides: int | tuple[int, int] = 1,
    *,
    width: int | None = None,
    stride_in: Literal["3x3", "1x1"] = "3x3",
    shortcut: Literal["identity", "projection"] | None = None,
    preactivate: bool = False,
    stochastic_depth: float = 0.0,
    name: str | None = None,
    **options: Unpack[BlockOptions],
) -> keras.KerasTensor:
    """1 x 1, 3 x 3 and 1 x 1 convolution with a shortcut: the block of ResNet-50 and deeper.

    As `residual`, with the 3 x 3 convolution at a smaller width (He et al., 2015, arXiv:1512.03385, figure 5 right).
    With `groups` it is ResNeXt's (Xie et al., 2016, arXiv:1611.05431, figure 3c), with a larger `width` Wide ResNet's.
    Differs from the paper in: the stride is in the 3 x 3 convolution, which loses no pixels ("ResNet v1.5").

    Args:
        x: `(batch, height, width, channels)`.
        filters: Channels of the output.
        strides: Strides of one of the convolutions, and of the shortcut; an int or `(height, width)`.
        width: Channels of the inner maps. None: filters // 4.
        stride_in: Which convolution has the stride: "3x3", or "1x1", the first one, as in the paper and in
            `keras.applications.ResNet50`.
        shortcut: As in `residual`.
        preactivate: As in `residual`.
        stochastic_depth: As in `residual`.
        name: As in `residual`.
        options: As in `residual`. `padding`, `padding_mode`, `dilation_rate` and `groups` apply to the 3 x 3
            convolution only.

    Returns:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`.
        Parameters: channels · width + 9 · width² / groups + width · filters, plus channels · filters for a
        projection, plus normalisation.

    Raises:
        ValueError: If the shapes of shortcut and branch differ, with both shapes; if an option is unknown.

    Example:
        >>> x = keras.Input((32, 32, 64))
        >>> bottleneck(x, 256, strides=2).shape
        (None, 16, 16, 256)
    """
    owner = "bottleneck"
    check_options(bottleneck, options, BlockOptions)
    arguments.one_of(owner, "stride_in", stride_in, ("3x3", "1x1"))
    strides = arguments.pair(owner, "strides", strides)
    if width is None:
        width = arguments.integer(owner, "filters", filters, 4) // 4
    arguments.integer(owner, "width", width)
    convolutions = [
        _Convolution(width, 1, strides if stride_in == "1x1" else 1),
        _Convolution(width, 3, strides if stride_in == "3x3" else 1),
        _Convolution(filters, 1, 1),
    ]
    return _residual(owner, x, convolutions, strides, shortcut, preactivate, stochastic_depth, name, {**options})


def _residual(
    owner: str,
    x: keras.KerasTensor,
    convolutions: list[_Convolution],
    strides: int | tuple[int, int],
    shortcut: Literal["identity", "projection"] | None,
    preactivate: bool,
    stochastic_depth: float,
    name: str | None,
    options: dict[str, Any],
) -> keras.KerasTensor:
    """The sum of a shortcut and a branch of convolutions."""
    arguments.one_of(owner, "shortcut", shortcut, SHORTCUTS)
    arguments.fraction(owner, "stochastic_depth", stochastic_depth)
    form = {key: options[key] for key in ("norm", "activation") if key in options}
    last: dict[str, Any] = {"activation": None, "norm": None} if preactivate else {"activation": None}
    filters = convolutions[-1].filters
    start = norm_act(x, name=layer_name(name, "pre"), **form) if preactivate else x

    same_shape = x.shape[channel_axis()] == filters and strides == (1, 1)
    if shortcut == "projection" or (shortcut is None and not same_shape):
        project = pointwise_options(options) | last
        base = conv_norm_act(start, filters, 1, strides, name=layer_name(name, "shortcut"), **project)
    else:
        base = x
    branch = start
    for number, (width, kernel_size, stride) in enumerate(convolutions, 1):
        given = options if kernel_size != 1 else pointwise_options(options)
        given = given | last if number == len(convolutions) else given
        branch = conv_norm_act(branch, width, kernel_size, stride, name=layer_name(name, number), **given)
    y = add(owner, base, branch, stochastic_depth, name)
    return y if preactivate else norm_act(y, **form | {"norm": None}, name=name)


def add(
    owner: str, base: keras.KerasTensor, branch: keras.KerasTensor, stochastic_depth: float, name: str | None
) -> keras.KerasTensor:
    """base + branch, with the branch dropped at a rate. The shapes must be equal, since Keras would broadcast."""
    if stochastic_depth:
        branch = StochasticDepth(stochastic_depth, name=layer_name(name, "stochastic_depth"))(branch)
    if base.shape != branch.shape:
        raise ValueError(
            f"{owner}: shortcut {base.shape} and branch {branch.shape} must have equal shapes to be added. Make the "
            "shortcut a projection with the strides of the branch, or pad the branch so that it keeps the map's size."
        )
    return keras.layers.Add(name=layer_name(name, "add"))([base, branch])
