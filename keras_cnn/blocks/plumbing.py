"""What all blocks share: names of layers, options of their convolutions, and checks that say what does not fit."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict

import keras

from keras_cnn import arguments, geometry

Block = Callable[..., keras.KerasTensor]


class LayerOptions(TypedDict, total=False):
    """What every convolution of Keras takes, depthwise and transposed ones included."""

    padding: str | int | tuple[int | tuple[int, int], ...]
    dilation_rate: int | tuple[int, int]
    use_bias: bool
    kernel_initializer: str | keras.Initializer
    bias_initializer: str | keras.Initializer
    kernel_regularizer: str | keras.Regularizer | None
    bias_regularizer: str | keras.Regularizer | None
    activity_regularizer: str | keras.Regularizer | None
    kernel_constraint: str | Callable | None
    bias_constraint: str | Callable | None
    dtype: str | keras.DTypePolicy | None
    trainable: bool


class ConvOptions(LayerOptions, total=False):
    """Further arguments of `kc.layers.Conv2D`, which `conv_norm_act` passes on."""

    padding_mode: Literal["zeros", "reflect", "replicate", "circular"]
    groups: int


class NormActOptions(TypedDict, total=False):
    """What follows each convolution of a block."""

    norm: Callable[..., keras.layers.Layer] | None
    activation: str | Callable | None


class BlockOptions(ConvOptions, NormActOptions, total=False):
    """Further arguments of a block of convolutions."""


class DepthwiseBlockOptions(LayerOptions, NormActOptions, total=False):
    """Further arguments of a block with a depthwise convolution, which has no groups and no padding mode."""


# What concerns the window of a convolution: a block passes it to its n x n convolutions, not to its 1 x 1 ones.
WINDOW_OPTIONS = ("padding", "padding_mode", "dilation_rate", "groups")

# Layers that slide a window over a map; those of `kc.layers` are subclasses. Other layers do more than their window says.
WINDOW_LAYERS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.AveragePooling3D,
)


def layer_name(prefix: str | None, part: object) -> str | None:
    """The name of a part of a block; None (Keras numbers the layer) where the block has no name."""
    return None if prefix is None else f"{prefix}_{part}"


def channel_axis() -> int:
    """The axis of channels under the Keras setting `image_data_format`, which blocks read here and nowhere else."""
    return 1 if keras.config.image_data_format() == "channels_first" else -1


def pointwise_options(options: dict[str, Any]) -> dict[str, Any]:
    """`options` for a 1 x 1 convolution: without what concerns the window."""
    return {name: value for name, value in options.items() if name not in WINDOW_OPTIONS}


def check_options(block: Block, options: Mapping[str, Any], known: type, kind: str = "plain") -> None:
    """ValueError for an option of `block` that is not a key of the TypedDict `known`.

    `kind` is the kind of convolution that does not have what other convolutions have.
    """
    owner = block.__name__
    names = known.__annotations__
    for name, value in options.items():
        if name in names:
            continue
        if name in BlockOptions.__annotations__:
            remedy = f"A {kind} convolution does not have it."
            raise ValueError(arguments.message(owner, name, "omitted", value, remedy))
        own = [each for each in inspect.signature(block).parameters if each != "options"]
        remedy = arguments.suggestion(name, [*own, *names]) or f"The options are {', '.join(names)}."
        expected = "an argument of this block or of its convolutions"
        raise ValueError(arguments.message(owner, name, expected, value, remedy))


def check_layer_factory(owner: str, name: str, value: Any, example: str) -> None:
    """ValueError if `value` makes no layers: the name of a layer, a layer, a number."""
    if callable(value) and not isinstance(value, keras.layers.Layer):
        return
    expected = "a class of layers, or a function that makes a layer"
    remedy = f"{example} is one; None means no such layer."
    raise ValueError(arguments.message(owner, name, expected, value, remedy))


def apply_step(step: Block, x: keras.KerasTensor, name: str | None = None) -> keras.KerasTensor:
    """`step(x)`, of a layer or a block: a layer's window is checked first, a block without a name gets `name`."""
    if isinstance(step, keras.layers.Layer):
        check_window(step, x.shape)
        return step(x)
    parameter = inspect.signature(step).parameters.get("name")
    takes_name = parameter is not None and (parameter.default is None or parameter.default is parameter.empty)
    return step(x, name=name) if takes_name else step(x)


def check_window(layer: keras.layers.Layer, shape: tuple[int | None, ...]) -> None:
    """ValueError, with the arithmetic, if the window of a convolution or pooling does not fit on the map.

    The layers of Keras only say that the size "would be zero or negative".
    """
    if not isinstance(layer, WINDOW_LAYERS) or layer.padding != "valid":
        return
    window = getattr(layer, "kernel_size", None) or layer.pool_size
    sizes = shape[2:] if layer.data_format == "channels_first" else shape[1:-1]
    if len(sizes) != len(window):
        return  # Keras says what is wrong
    dilations = getattr(layer, "dilation_rate", (1,) * len(window))
    for size, kernel_size, strides, dilation_rate in zip(sizes, window, layer.strides, dilations, strict=True):
        geometry.output_size(size, kernel_size, strides, "valid", dilation_rate)
