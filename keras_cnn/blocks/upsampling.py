"""From a small map to a larger one, for decoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Unpack

import keras

from keras_cnn import arguments
from keras_cnn.blocks.convolution import conv_norm_act, norm_act
from keras_cnn.blocks.plumbing import (
    BlockOptions,
    DepthwiseBlockOptions,
    channel_axis,
    check_options,
    layer_name,
)

RESIZE = (None, "nearest", "bilinear")


def upsample(
    x: keras.KerasTensor,
    filters: int,
    scale: int = 2,
    *,
    skip: keras.KerasTensor | None = None,
    resize: Literal["nearest", "bilinear"] | None = None,
    kernel_size: int | tuple[int, int] | None = None,
    name: str | None = None,
    **options: Unpack[BlockOptions],
) -> keras.KerasTensor:
    """Enlarge a map, by transposed convolution or by resizing and convolution, and concatenate a skip connection.

    y = [skip, a(norm(Wᵀ x))], with W a convolution of stride `scale`, or y = [skip, a(norm(W ∗ resize(x)))]. The
    first with a 2 x 2 kernel is the up-convolution of Ronneberger et al., 2015, U-Net, arXiv:1505.04597, figure 1.
    Kernels that the stride does not divide overlap unevenly, which shows as checkerboards; resizing avoids them (Odena
    et al., 2016, "Deconvolution and Checkerboard Artifacts", doi:10.23915/distill.00003). In U-Net two `conv_norm_act`
    follow. Differs from the paper in: normalisation and activation follow the up-convolution; `skip` is not cropped and
    must have the size of the enlarged map.

    Args:
        x: `(batch, height, width, channels)`.
        filters: Channels that come from `x`.
        scale: Factor of height and width, at least 2.
        skip: An earlier map `(batch, scale · height, scale · width, any)`. None: no concatenation.
        resize: "nearest" or "bilinear", followed by a convolution. None: transposed convolution.
        kernel_size: int | tuple[int, int], an int or `(height, width)`. None: `scale` for the transposed convolution, 3 after a
            resize.
        name: Prefix of the layers: `name_resize`, `name_conv`, `name_norm`, `name_act`, `name_concat`.
        options: `norm`, `activation` and further options as in `conv_norm_act`, but `padding` is always "same". A
            transposed convolution, which is `keras.layers.Conv2DTranspose`, has no `groups` and no `padding_mode`.

    Returns:
        `(batch, scale · height, scale · width, filters + channels of skip)`.
        Parameters: kernel_size² · channels · filters, plus normalisation.

    Raises:
        ValueError: If `skip` differs in size from the enlarged map, with both shapes; if an option is unknown.

    Example:
        >>> x = keras.Input((8, 8, 64))
        >>> earlier = keras.Input((16, 16, 32))
        >>> upsample(x, 32, skip=earlier).shape
        (None, 16, 16, 64)
    """
    arguments.integer("upsample", "scale", scale, 2)
    arguments.one_of("upsample", "resize", resize, RESIZE)
    check_options(upsample, options, BlockOptions if resize else DepthwiseBlockOptions, "transposed")
    given: dict[str, Any] = {"padding": "same", **options}
    if given["padding"] != "same":
        expected = "'same', for a map of exactly `scale` times the size"
        raise ValueError(arguments.message("upsample", "padding", expected, given["padding"]))
    if resize is None:
        y = _transposed_convolution(x, filters, scale if kernel_size is None else kernel_size, scale, name, **given)
    else:
        y = keras.layers.UpSampling2D(scale, interpolation=resize, name=layer_name(name, "resize"))(x)
        y = conv_norm_act(y, filters, 3 if kernel_size is None else kernel_size, 1, name=name, **given)
    return y if skip is None else _concatenate_skip(skip, y, name)


def _concatenate_skip(skip: keras.KerasTensor, y: keras.KerasTensor, name: str | None) -> keras.KerasTensor:
    axis = channel_axis()
    sizes = [shape[2:] if axis == 1 else shape[1:-1] for shape in (y.shape, skip.shape)]
    if any(None not in pair and pair[0] != pair[1] for pair in zip(*sizes, strict=True)):
        raise ValueError(
            f"upsample: the enlarged map {y.shape} and `skip` {skip.shape} must have equal height and width. "
            "Choose an input size that the product of all strides divides."
        )
    return keras.layers.Concatenate(axis=axis, name=layer_name(name, "concat"))([skip, y])


def _transposed_convolution(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int | tuple[int, int],
    strides: int,
    name: str | None,
    norm: Callable[..., keras.layers.Layer] | None = keras.layers.BatchNormalization,
    activation: str | Callable | None = "relu",
    **options: Any,
) -> keras.KerasTensor:
    given = {"use_bias": norm is None, **options}
    x = keras.layers.Conv2DTranspose(filters, kernel_size, strides, name=layer_name(name, "conv"), **given)(x)
    return norm_act(x, norm, activation, name)
