"""Residual blocks: the input is added to what a few convolutions make of it."""

from __future__ import annotations

import keras

from keras_cnn import arguments
from keras_cnn.blocks.convolution import channel_axis, conv_norm_act, join, norm_act, pointwise
from keras_cnn.layers import StochasticDepth

SHORTCUTS = (None, "identity", "projection")


def residual(
    x,
    filters: int,
    strides=1,
    *,
    layers: int = 2,
    shortcut: str | None = None,
    preactivate: bool = False,
    stochastic_depth: float = 0.0,
    name: str | None = None,
    **options,
):
    """Two or three 3 x 3 convolutions with a shortcut: the basic block of ResNet-18 and ResNet-34.

    y = a(S(x) + F(x)), F = conv, norm, a, conv, norm (He et al., 2015, arXiv:1512.03385, eqs. 1-2 and figure 5 left),
    or with `preactivate` y = S(x) + F(x), F = norm, a, conv, norm, a, conv (He et al., 2016, arXiv:1603.05027, figure
    4e). Behind the last of such blocks the network needs what they leave out, before its head:
    `keras.layers.BatchNormalization()`, then `keras.layers.ReLU()`. Differs from the paper in: the shortcut of a
    pre-activated block that changes shape starts behind the first activation, as in the authors' code.

    Args:
        x: `(batch, height, width, channels)`.
        filters: Channels of the output.
        strides: Of the first convolution and of the shortcut, an int or `(height, width)`.
        layers: Number of 3 x 3 convolutions, 2 or 3 in the literature, any from 1.
        shortcut: "identity"; "projection", a 1 x 1 convolution with normalisation; None: identity where the shape
            stays, projection elsewhere (the paper's option B; always "projection" is its option C).
        preactivate: Whether normalisation and activation stand before each convolution, and none behind the sum.
        stochastic_depth: Rate at which a sample's branch F is left out during training, in [0, 1) (arXiv:1603.09382).
        name: Prefix of the layers: `name_1_conv`, ..., `name_shortcut_conv`, `name_add`, `name_act`.
        options: As in `conv_norm_act`. `padding`, `padding_mode`, `dilation_rate` and `groups` do not go to the
            projection.

    Returns:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`.
        Parameters: 9 · (channels · filters + (layers - 1) · filters²) / groups, plus channels · filters for a
        projection, plus normalisation.

    Raises:
        ValueError: If the shapes of shortcut and branch differ, both written out.
    """
    arguments.integer("residual", "layers", layers)
    strides = arguments.per_axis("residual", "strides", strides, 2)
    convolutions = [(filters, 3, strides)] + [(filters, 3, 1)] * (layers - 1)
    return _residual("residual", x, convolutions, strides, shortcut, preactivate, stochastic_depth, name, options)


def bottleneck(
    x,
    filters: int,
    strides=1,
    *,
    width: int | None = None,
    stride_in: str = "3x3",
    shortcut: str | None = None,
    preactivate: bool = False,
    stochastic_depth: float = 0.0,
    name: str | None = None,
    **options,
):
    """1 x 1, 3 x 3 and 1 x 1 convolution with a shortcut: the block of ResNet-50 and deeper.

    As `residual`, with the 3 x 3 convolution done at a smaller width (He et al., 2015, arXiv:1512.03385, figure 5
    right). With `groups` it is ResNeXt's (Xie et al., 2016, arXiv:1611.05431, figure 3c), with a larger `width` Wide
    ResNet's. Differs from the paper in: the stride sits in the 3 x 3 convolution, which loses no pixels ("ResNet
    v1.5").

    Args:
        x: `(batch, height, width, channels)`.
        filters: Channels of the output.
        strides: Of one of the convolutions, and of the shortcut; an int or `(height, width)`.
        width: Channels of the inner maps. None: filters // 4.
        stride_in: Which convolution has the stride: "3x3", or "1x1", the first one, as in the paper and in
            `keras.applications.ResNet50`.
        shortcut: As in `residual`.
        preactivate: As in `residual`.
        stochastic_depth: As in `residual`.
        name: As in `residual`.
        options: As in `conv_norm_act`. `padding`, `padding_mode`, `dilation_rate` and `groups` go to the 3 x 3
            convolution.

    Returns:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`.
        Parameters: channels · width + 9 · width² / groups + width · filters, plus channels · filters for a
        projection, plus normalisation.

    Raises:
        ValueError: If the shapes of shortcut and branch differ, both written out.
    """
    arguments.one_of("bottleneck", "stride_in", stride_in, ("3x3", "1x1"))
    strides = arguments.per_axis("bottleneck", "strides", strides, 2)
    if width is None:
        width = arguments.integer("bottleneck", "filters", filters, 4) // 4
    arguments.integer("bottleneck", "width", width)
    first, second = (strides, 1) if stride_in == "1x1" else (1, strides)
    convolutions = [(width, 1, first), (width, 3, second), (filters, 1, 1)]
    return _residual("bottleneck", x, convolutions, strides, shortcut, preactivate, stochastic_depth, name, options)


def _residual(owner, x, convolutions, strides, shortcut, preactivate, stochastic_depth, name, options):
    """The sum of a shortcut and a branch of `(filters, kernel_size, strides)` convolutions."""
    arguments.one_of(owner, "shortcut", shortcut, SHORTCUTS)
    arguments.fraction(owner, "stochastic_depth", stochastic_depth)
    form = {key: options[key] for key in ("norm", "activation") if key in options}
    filters = convolutions[-1][0]
    start = norm_act(x, name=join(name, "pre"), **form) if preactivate else x
    last = {"activation": None, "norm": None} if preactivate else {"activation": None}

    same = x.shape[channel_axis()] == filters and strides == (1, 1)
    if shortcut == "projection" or (shortcut is None and not same):
        base = conv_norm_act(start, filters, 1, strides, name=join(name, "shortcut"), **pointwise(options) | last)
    else:
        base = x
    branch = start
    for number, (width, kernel_size, stride) in enumerate(convolutions, 1):
        given = options if kernel_size != 1 else pointwise(options)
        given = given | last if number == len(convolutions) else given
        branch = conv_norm_act(branch, width, kernel_size, stride, name=join(name, number), **given)
    y = add(owner, base, branch, stochastic_depth, name)
    return y if preactivate else norm_act(y, **form | {"norm": None}, name=name)


def add(owner, base, branch, stochastic_depth, name):
    """base + branch, whose shapes must be equal (Keras would broadcast), the branch left out at a rate."""
    if stochastic_depth:
        branch = StochasticDepth(stochastic_depth, name=join(name, "stochastic_depth"))(branch)
    if base.shape != branch.shape:
        raise ValueError(
            f"{owner}: shortcut {base.shape} and branch {branch.shape} must have equal shapes to be added. Make the "
            "shortcut a projection with the strides of the branch, or pad the branch so that it keeps the map's size."
        )
    return keras.layers.Add(name=join(name, "add"))([base, branch])
