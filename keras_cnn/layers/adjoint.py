"""The exact transpose of a convolution layer.

A convolution without its bias is a linear map C of the input. Its adjoint C* is the map with <C x, y> = <x, C* y> for
all x and y: the gradient of the convolution with respect to its input, as a layer. C pads, then convolves. So C* is the
transpose of the "valid" convolution followed by the transpose of the padding.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_cnn import arguments, geometry
from keras_cnn.layers.convolution import Amounts, axis_paddings, convolve, pad

_register = keras.saving.register_keras_serializable(package="keras_cnn")


def transposed_convolution(y: Any, conv: keras.layers.Layer, kernel: Any, crops: Amounts) -> Any:
    """Transpose of the "valid" convolution with the strides, dilation and groups of `conv`.

    It has (O - 1) * S + (K - 1) * d + 1 cells along each axis, less the (low, high) ones of `crops` at the ends.
    Negative crops add zeros: input cells that the stride leaves out.
    """
    if conv.groups == 1 and max(conv.strides) > 1 and max(conv.dilation_rate) == 1:
        if (output_padding := _same_output_padding(conv, crops)) is not None:
            return ops.conv_transpose(y, kernel, conv.strides, "same", output_padding, conv.data_format)
        y = ops.conv_transpose(y, kernel, conv.strides, "valid", 0, conv.data_format)
        return pad(y, [(-low, -high) for low, high in crops], first_axis=_first_axis(conv))
    # Otherwise it is a convolution with the flipped kernel, inputs and outputs exchanged within each group.
    y = _spread(y, conv.strides, _first_axis(conv))
    kernel = ops.flip(kernel, tuple(range(conv.rank)))
    *sizes, channels, filters = kernel.shape
    kernel = ops.reshape(kernel, (*sizes, channels, conv.groups, filters // conv.groups))
    kernel = ops.reshape(ops.swapaxes(kernel, -3, -1), (*sizes, filters // conv.groups, channels * conv.groups))
    reaches = [geometry.effective_kernel_size(*axis) - 1 for axis in zip(sizes, conv.dilation_rate, strict=True)]
    amounts = [(reach - low, reach - high) for reach, (low, high) in zip(reaches, crops, strict=True)]
    return convolve(y, kernel, (1,) * conv.rank, amounts, conv.dilation_rate, conv.data_format)


def fold(x: Any, amounts: Amounts, mode: str, first_axis: int) -> Any:
    """Transpose of `convolution.pad`: each cell of the padding is added to the cell that it was copied from."""
    for axis, (before, after) in enumerate(amounts, first_axis):
        x = _fold_axis(x, axis, before, after, mode) if before or after else x
    return x


def _fold_axis(x, axis, before, after, mode):
    size = ops.shape(x)[axis] - before - after
    low, inner, high = (
        x[(slice(None),) * axis + (slice(start, start + length),)]
        for start, length in ((0, before), (before, size), (before + size, after))
    )
    if mode == "reflect":  # around the border cell, which is not itself repeated
        places = ((ops.flip(low, axis), before, 1), (ops.flip(high, axis), after, size - 1 - after))
    elif mode == "replicate":
        places = ((ops.sum(low, axis, keepdims=True), 1, 0), (ops.sum(high, axis, keepdims=True), 1, size - 1))
    else:
        places = ((low, before, size - before), (high, after, 0))
    for part, length, start in places:
        widths = [(0, 0)] * x.ndim
        widths[axis] = (start, size - start - length)
        inner = inner + ops.pad(part, widths)
    return inner


class _ConvAdjoint(keras.layers.Layer):
    _transposes: type[keras.layers.Layer]

    def __init__(
        self, conv: keras.layers.Layer, output_size: int | tuple[int, ...] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        owner = type(self).__name__
        if not isinstance(conv, self._transposes):
            expected = f"a keras.layers.{self._transposes.__name__} or a subclass"
            raise ValueError(arguments.message(owner, "conv", expected, conv))
        if output_size is not None:
            output_size = arguments.per_axis(owner, "output_size", output_size, conv.rank)
        self.conv = conv
        self.output_size = output_size

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.compute_output_shape(input_shape)  # raises if the convolution makes no such map
        conv = self.conv
        self.input_spec = keras.layers.InputSpec(ndim=conv.rank + 2, axes={_channel_axis(conv): conv.filters})

    def call(self, inputs: Any) -> Any:
        conv = self.conv
        mode = getattr(conv, "padding_mode", "zeros")
        kernel = ops.cast(conv.kernel, inputs.dtype)  # the two layers may differ in dtype policy
        _, amounts, unused = zip(*self._axes(inputs.shape), strict=True)
        if mode == "zeros":  # to drop the padding is its transpose
            crops = [(before, after - more) for (before, after), more in zip(amounts, unused, strict=True)]
            return transposed_convolution(inputs, conv, kernel, crops)
        padded = transposed_convolution(inputs, conv, kernel, [(0, -more) for more in unused])
        return fold(padded, amounts, mode, _first_axis(conv))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        self._check_input(input_shape)
        sizes = [size for size, _, _ in self._axes(input_shape)]
        channels = self.conv.kernel.shape[-2] * self.conv.groups
        if self.conv.data_format == "channels_first":
            return (input_shape[0], channels, *sizes)
        return (input_shape[0], *sizes, channels)

    def _check_input(self, shape):
        """ValueError if the convolution has no kernel yet, or if its output never has this shape."""
        conv = self.conv
        owner = type(self).__name__
        if not conv.built:
            remedy = "Call or build the convolution first: this layer uses its kernel."
            raise ValueError(arguments.message(owner, "conv", "built", conv, remedy))
        if len(shape) != conv.rank + 2 or shape[_channel_axis(conv)] not in (None, conv.filters):
            expected = f"an output of the convolution, with {conv.rank + 2} axes and {conv.filters} channels"
            raise ValueError(f"{owner}: the input must be {expected}. Received: an input of shape {tuple(shape)}.")

    def _axes(self, input_shape):
        """For each axis: output size, (before, after) padding of `conv` there, and cells that its stride leaves out."""
        conv = self.conv
        owner = type(self).__name__
        spatial = slice(_first_axis(conv), _first_axis(conv) + conv.rank)
        targets = self.output_size or conv.get_build_config()["input_shape"][spatial]
        arithmetic = zip(conv.kernel_size, conv.strides, axis_paddings(conv), conv.dilation_rate, strict=True)
        return [
            _axis(owner, size, target, *axis)
            for size, target, axis in zip(input_shape[spatial], targets, arithmetic, strict=True)
        ]

    def get_config(self) -> dict[str, Any]:
        conv = keras.saving.serialize_keras_object(self.conv)
        return {**super().get_config(), "conv": conv, "output_size": self.output_size}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> _ConvAdjoint:
        return cls(**{**config, "conv": keras.saving.deserialize_keras_object(config["conv"])})


def _axis(owner, size, target, kernel_size, strides, padding, dilation_rate):
    """`_ConvAdjoint._axes` for one axis: an input of `size`, an output of `target`. None: unknown, so any value fits."""
    rest = (kernel_size, strides, padding, dilation_rate)
    known = size is not None or target is not None
    if target is None:
        # The stride leaves the same number of cells out of every such size, so any size serves for an unknown one.
        any_size = 1 + sum(geometry.padding_amounts(strides, *rest))
        target = geometry.transposed_output_size(size or any_size, *rest)
    made = geometry.output_size(target, *rest)
    if size not in (None, made):
        expected = f"a size from which the convolution makes {size}, the size of the input (it makes {made})"
        remedy = "Pass another output_size, or an output of the convolution."
        raise ValueError(arguments.message(owner, "output_size", expected, target, remedy))
    amounts = geometry.padding_amounts(target, *rest)
    reached = (made - 1) * strides + geometry.effective_kernel_size(kernel_size, dilation_rate)
    return target if known else None, amounts, target + sum(amounts) - reached


def _same_output_padding(conv, crops):
    """The `output_padding` with which "same" of `keras.ops.conv_transpose` drops exactly `crops`; None if none does.

    It takes half the time of "valid" followed by a crop.
    """
    result = []
    for kernel_size, stride, (low, high) in zip(conv.kernel_size, conv.strides, crops, strict=True):
        last = kernel_size - low - high  # cells of the output that belong to the last cell of the input
        if not 1 <= last <= stride or low != max(low + high, 0) // 2:
            return None
        result.append(last - kernel_size % 2)
    return tuple(result)


def _spread(y, strides, first_axis):
    """`y` with strides - 1 zeros after each cell but the last, along each axis."""
    for axis, stride in enumerate(strides, first_axis):
        if stride > 1:
            shape = list(ops.shape(y))
            y = pad(ops.expand_dims(y, axis + 1), [(0, stride - 1)], first_axis=axis + 1)
            shape[axis] *= stride
            y = pad(ops.reshape(y, shape), [(0, 1 - stride)], first_axis=axis)
    return y


def _first_axis(conv):
    return 2 if conv.data_format == "channels_first" else 1


def _channel_axis(conv):
    return 1 if conv.data_format == "channels_first" else -1


@_register
class ConvAdjoint1D(_ConvAdjoint):
    """Exact transpose of a `Conv1D` layer, sharing its kernel: `ConvAdjoint2D` along one axis.

    Args:
        conv: A `keras.layers.Conv1D` or a subclass, called or built before this layer is called.
        output_size: Number of steps, an int. None: that of the first input of `conv`; if it was unknown then,
            `keras_cnn.geometry.transposed_output_size`.
        kwargs: `name`, `dtype` and `trainable`, as in every layer.
    Call arguments:
        inputs: Shape of an output of `conv`: `(batch, steps, conv.filters)` if it is channels_last.
    Output shape: `(batch, output_size, channels)`, the shape of an input of `conv`.
    Raises:
        ValueError: As in `ConvAdjoint2D`.
    Example:
        >>> conv = keras.layers.Conv1D(8, 5, strides=2, padding="causal")
        >>> y = conv(keras.ops.ones((1, 21, 3)))
        >>> tuple(ConvAdjoint1D(conv)(y).shape)
        (1, 21, 3)
    """

    _transposes = keras.layers.Conv1D


@_register
class ConvAdjoint2D(_ConvAdjoint):
    """Exact transpose of a `Conv2D` layer, sharing its kernel.

    With C the convolution without bias and activation, this layer is C*, the map with

        <C x, y> = <x, C* y>    for all x and y

    for every stride, padding, padding mode, dilation and number of groups, and for sizes that the stride does not
    divide. It ties the weights of an encoder and its decoder, and it is one step of unrolled optimisation: the gradient
    of |C x - y|^2 / 2 is C*(C x - y). Unlike `keras.layers.Conv2DTranspose` it has no weights of its own, and it
    restores exactly the size of the input of the convolution. Gradients reach the kernel through both layers.
    `trainable = False` on either layer counts for both: on this layer it freezes the convolution too.

    A `.keras` file keeps the one kernel if both layers are in one flat graph. If the convolution is in a nested model,
    such as an encoder that is called as a layer, Keras fails to load the file, as for any layer that two models share.
    In that case build the autoencoder flat and take the encoder out of it, `keras.Model(model.inputs, code)`; or save
    the weights alone and load them into a newly built model. `keras.models.clone_model` and `from_config` copy layer by
    layer, so the copy of this layer has its own kernel.

    Args:
        conv: A `keras.layers.Conv2D` or a subclass, called or built before this layer is called.
        output_size: Height and width, an int for both or a pair. None: the size of the first input of `conv`, which
            Keras records; along an axis whose size was unknown then, `keras_cnn.geometry.transposed_output_size`, the
            size that `Conv2DTranspose` gives.
        kwargs: `name`, `dtype` and `trainable`, as in every layer.
    Call arguments:
        inputs: Shape of an output of `conv`: `(batch, height, width, conv.filters)` if it is channels_last.
    Output shape: `(batch, *output_size, channels)`, the shape of an input of `conv`.
    Raises:
        ValueError: If `conv` is not such a layer; if it is not built when this layer is called; if its output never
            has the shape of `inputs`.
    Example:
        >>> conv = keras.layers.Conv2D(8, 3, strides=2, padding="same")
        >>> y = conv(keras.ops.ones((1, 15, 16, 3)))
        >>> tuple(ConvAdjoint2D(conv)(y).shape)
        (1, 15, 16, 3)

    Reference: Dumoulin & Visin, 2016, *A guide to convolution arithmetic for deep learning*, arXiv:1603.07285,
        section 4 and relationship 14.
    """

    _transposes = keras.layers.Conv2D


@_register
class ConvAdjoint3D(_ConvAdjoint):
    """Exact transpose of a `Conv3D` layer, sharing its kernel: `ConvAdjoint2D` along three axes.

    Args:
        conv: A `keras.layers.Conv3D` or a subclass, called or built before this layer is called.
        output_size: Depth, height and width, an int for all or three of them. None: as in `ConvAdjoint2D`.
        kwargs: `name`, `dtype` and `trainable`, as in every layer.
    Call arguments:
        inputs: Shape of an output of `conv`: `(batch, depth, height, width, conv.filters)` if it is channels_last.
    Output shape: `(batch, *output_size, channels)`, the shape of an input of `conv`.
    Raises:
        ValueError: As in `ConvAdjoint2D`.
    Example:
        >>> conv = keras.layers.Conv3D(8, 3, strides=2)
        >>> y = conv(keras.ops.ones((1, 7, 8, 9, 2)))
        >>> tuple(ConvAdjoint3D(conv)(y).shape)
        (1, 7, 8, 9, 2)
    """

    _transposes = keras.layers.Conv3D
