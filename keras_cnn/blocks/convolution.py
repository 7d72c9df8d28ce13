"""The unit that all blocks are made of: convolution, normalisation, activation."""

from __future__ import annotations

import inspect

import keras

from keras_cnn import arguments, geometry
from keras_cnn.layers import Conv2D

# Arguments that speak of a convolution's window: a block hands them to its n x n convolutions, not to its 1 x 1 ones.
WINDOW = ("padding", "padding_mode", "dilation_rate", "groups")
# Layers that slide a window over a map, those of `kc.layers` among them; others do more than their window says.
WINDOWED = (
    *(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D),
    *(keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D),
    *(keras.layers.SeparableConv1D, keras.layers.SeparableConv2D),
    *(keras.layers.MaxPooling1D, keras.layers.MaxPooling2D, keras.layers.MaxPooling3D),
    *(keras.layers.AveragePooling1D, keras.layers.AveragePooling2D, keras.layers.AveragePooling3D),
)


def conv_norm_act(
    x,
    filters: int,
    kernel_size=3,
    strides=1,
    *,
    norm=keras.layers.BatchNormalization,
    activation="relu",
    name: str | None = None,
    **options,
):
    """Convolution, normalisation, activation.

    y = activation(norm(W ∗ x)). The convolution has a bias only where no normalisation follows, whose own offset
    would take its place (Ioffe & Szegedy, 2015, arXiv:1502.03167, section 3.2). All other blocks are made of this one
    and hand `norm`, `activation` and `options` down to it.

    Args:
        x: `(batch, height, width, channels)`, or channels first where that is the Keras setting.
        filters: Channels of the output.
        kernel_size: Window, an int or `(height, width)`.
        strides: An int or `(height, width)`.
        norm: Makes the normalisation; called as `norm(axis=..., name=...)`. A Keras class, or one with arguments bound:
            `functools.partial(keras.layers.BatchNormalization, epsilon=1e-5)`. None: no normalisation.
        activation: A name or function as in `keras.layers.Activation`. None: no activation.
        name: Prefix of the layers `name_conv`, `name_norm`, `name_act`.
        options: Further arguments of `kc.layers.Conv2D`: `padding` ("same" unless given; numbers are allowed),
            `padding_mode`, `dilation_rate`, `groups`, `use_bias`, `kernel_initializer`, `kernel_regularizer`, ...

    Returns:
        `(batch, new_height, new_width, filters)`; with "same" padding new_height = ceil(height / strides).
        Parameters: n · m · channels · filters / groups, and 4 · filters for batch normalisation (half of them trained).

    Raises:
        ValueError: If the window does not fit on the map, with the arithmetic; if `norm` is not as above.
    """
    options = {"padding": "same", "use_bias": norm is None} | options
    # Keras' own class wherever it can say it: a saved model then opens where this package is not installed.
    plain = isinstance(options["padding"], str) and "padding_mode" not in options
    convolution = keras.layers.Conv2D if plain else Conv2D
    x = call(convolution(filters, kernel_size, strides, name=join(name, "conv"), **options), x)
    return norm_act(x, norm, activation, name)


def norm_act(x, norm=keras.layers.BatchNormalization, activation="relu", name=None):
    """Normalisation, then activation, each left out where it is None."""
    if norm is not None:
        makes_layers("conv_norm_act", "norm", norm, "keras.layers.BatchNormalization")
        x = norm(axis=channel_axis(), name=join(name, "norm"))(x)
    return x if activation is None else keras.layers.Activation(activation, name=join(name, "act"))(x)


def join(name: str | None, part) -> str | None:
    """The name of a part of a block; None (Keras chooses) where the block has no name."""
    return None if name is None else f"{name}_{part}"


def channel_axis() -> int:
    """The axis of channels under the Keras setting `image_data_format`, which blocks read here and nowhere else."""
    return 1 if keras.config.image_data_format() == "channels_first" else -1


def pointwise(options: dict) -> dict:
    """`options` for a 1 x 1 convolution: without what concerns the window."""
    return {key: value for key, value in options.items() if key not in WINDOW}


def makes_layers(owner: str, name: str, value, example: str):
    """`value` if it makes layers; ValueError for the name of a layer, for a layer, for a number."""
    if callable(value) and not isinstance(value, keras.layers.Layer):
        return value
    expected = "a class of layers, or a function that makes a layer"
    raise ValueError(arguments.message(owner, name, expected, value, f"{example} is one; None leaves it out."))


def refuse(owner: str, options: dict, names, kind: str) -> None:
    """ValueError for an option of `conv_norm_act` that another kind of convolution does not have."""
    for name in names:
        if name in options:
            remedy = f"A {kind} convolution does not have it."
            raise ValueError(arguments.message(owner, name, "left out", options[name], remedy))


def call(function, x, name: str | None = None):
    """`function(x)`: a layer whose window is checked first, or a block, told its name where it has none yet."""
    if isinstance(function, keras.layers.Layer):
        check_window(function, x.shape)
        return function(x)
    parameter = inspect.signature(function).parameters.get("name")
    free = parameter is not None and (parameter.default is None or parameter.default is parameter.empty)
    return function(x, name=name) if free else function(x)


def check_window(layer, shape) -> None:
    """ValueError, with the arithmetic written out, if the window of a convolution or pooling does not fit on the map.

    Keras' own layers only say that the size "would be zero or negative"; those of `kc.layers` check for themselves.
    """
    if not isinstance(layer, WINDOWED) or layer.padding != "valid":
        return
    window = getattr(layer, "kernel_size", None) or layer.pool_size
    sizes = shape[2:] if layer.data_format == "channels_first" else shape[1:-1]
    if len(sizes) != len(window):
        return  # Keras says what is wrong
    dilations = getattr(layer, "dilation_rate", (1,) * len(window))
    for axis in zip(sizes, window, layer.strides, dilations, strict=True):
        size, kernel_size, strides, dilation_rate = axis
        geometry.output_size(size, kernel_size, strides, "valid", dilation_rate)
