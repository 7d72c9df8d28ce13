"""The unit that all blocks are made of: convolution, normalisation, activation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import keras

from keras_cnn import arguments
from keras_cnn.blocks.plumbing import (
    ConvOptions,
    apply_step,
    channel_axis,
    check_layer_factory,
    check_options,
    layer_name,
)
from keras_cnn.layers import Conv2D


def conv_norm_act(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int | tuple[int, int] = 3,
    strides: int | tuple[int, int] = 1,
    *,
    norm: Callable[..., keras.layers.Layer] | None = keras.layers.BatchNormalization,
    activation: str | Callable | None = "relu",
    name: str | None = None,
    **options: Unpack[ConvOptions],
) -> keras.KerasTensor:
    """Convolution, normalisation, activation.

    y = activation(norm(W ∗ x)). The convolution has a bias only if no normalisation follows, since the offset of the
    normalisation does the same (Ioffe & Szegedy, 2015, arXiv:1502.03167, section 3.2). All other blocks are made of
    this one and pass `norm`, `activation` and `options` on to it.

    Args:
        x: `(batch, height, width, channels)`, or channels first where that is the Keras setting.
        filters: Channels of the output.
        kernel_size: int | tuple[int, int], an int or `(height, width)`.
        strides: An int or `(height, width)`.
        norm: Makes the normalisation; called as `norm(axis=..., name=...)`. A Keras class, or one with bound arguments:
            `functools.partial(keras.layers.BatchNormalization, epsilon=1e-5)`. None: no normalisation.
        activation: A name or function as in `keras.layers.Activation`. None: no activation.
        name: Prefix of the layers `name_conv`, `name_norm`, `name_act`.
        options: Further arguments of `kc.layers.Conv2D`: `padding` ("same" by default; numbers are allowed),
            `padding_mode`, `dilation_rate`, `groups`, `use_bias`, initializers, regularizers and constraints, `dtype`
            and `trainable`.

    Returns:
        `(batch, new_height, new_width, filters)`; with "same" padding new_height = ceil(height / strides).
        Parameters: n · m · channels · filters / groups, and 4 · filters for batch normalisation (half of them trained).

    Raises:
        ValueError: If the window does not fit on the map, with the arithmetic; if `norm` makes no layer; if an option
            is unknown.

    Example:
        >>> x = keras.Input((32, 32, 3))
        >>> conv_norm_act(x, 16, strides=2, name="stem").shape
        (None, 16, 16, 16)
    """
    check_options(conv_norm_act, options, ConvOptions)
    given: dict[str, Any] = {"padding": "same", "use_bias": norm is None, **options}
    given["padding"] = arguments.padding("conv_norm_act", given["padding"], 2)
    # Keras' own class wherever it is enough: the saved model then loads where this package is not installed.
    plain = isinstance(given["padding"], str) and "padding_mode" not in given
    convolution = keras.layers.Conv2D if plain else Conv2D
    x = apply_step(convolution(filters, kernel_size, strides, name=layer_name(name, "conv"), **given), x)
    return norm_act(x, norm, activation, name)


def norm_act(
    x: keras.KerasTensor,
    norm: Callable[..., keras.layers.Layer] | None = keras.layers.BatchNormalization,
    activation: str | Callable | None = "relu",
    name: str | None = None,
) -> keras.KerasTensor:
    """Normalisation, then activation; each is omitted where it is None."""
    if norm is not None:
        check_layer_factory("conv_norm_act", "norm", norm, "keras.layers.BatchNormalization")
        x = norm(axis=channel_axis(), name=layer_name(name, "norm"))(x)
    return x if activation is None else keras.layers.Activation(activation, name=layer_name(name, "act"))(x)
