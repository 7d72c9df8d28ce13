"""The exact transpose of a convolution layer.

A convolution without its bias is a linear map C of the input. Its adjoint C* is the map with <C x, y> = <x, C* y> for
all x and y: the gradient of the convolution with respect to its input, as a layer. C pads, then convolves; so C* is the
transpose of the "valid" convolution followed by the transpose of the padding.
"""

from __future__ import annotations

import keras
from keras import ops

from keras_cnn import arguments, geometry
from keras_cnn.layers.convolution import axis_paddings, convolve, pad

_register = keras.saving.register_keras_serializable(package="keras_cnn")


def transposed_convolution(y, conv, kernel, crops):
    """Transpose of the "valid" convolution with `conv`'s strides, dilation and groups.

    It has (O - 1) * S + (K - 1) * d + 1 cells along each axis, less the (low, high) ones of `crops` at the ends;
    negative crops add zeros: input cells that the stride left out.
    """
    if conv.groups == 1 and max(conv.strides) > 1 and max(conv.dilation_rate) == 1:
        if (output_padding := _same_output_padding(conv, crops)) is not None:
            return ops.conv_transpose(y, kernel, conv.strides, "same", output_padding, conv.data_format)
        y = ops.conv_transpose(y, kernel, conv.strides, "valid", 0, conv.data_format)
        return pad(y, [(-low, -high) for low, high in crops], first_axis=_first_axis(conv))
    # Otherwise it is a convolution with the mirrored kernel, inputs and outputs exchanged within each group.
    y = _spread(y, conv.strides, _first_axis(conv))
    kernel = ops.flip(kernel, tuple(range(conv.rank)))
    *sizes, channels, filters = kernel.shape
    kernel = ops.reshape(kernel, (*sizes, channels, conv.groups, filters // conv.groups))
    kernel = ops.reshape(ops.swapaxes(kernel, -3, -1), (*sizes, filters // conv.groups, channels * conv.groups))
    reaches = [geometry.effective_kernel_size(*axis) - 1 for axis in zip(sizes, conv.dilation_rate, strict=True)]
    amounts = [(reach - low, reach - high) for reach, (low, high) in zip(reaches, crops, strict=True)]
    return convolve(y, kernel, (1,) * conv.rank, amounts, conv.dilation_rate, conv.data_format)


def fold(x, amounts, mode, first_axis):
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
    def __init__(self, conv, output_size=None, **kwargs):
        super().__init__(**kwargs)
        owner = type(self).__name__
        if not isinstance(conv, self._transposes):
            expected = f"a keras.layers.{self._transposes.__name__} or a subclass"
            raise ValueError(arguments.message(owner, "conv", expected, conv))
        if output_size is not None:
            output_size = arguments.per_axis(owner, "output_size", output_size, conv.rank)
        self.conv = conv
        self.output_size = output_size
        self.input_spec = keras.layers.InputSpec(ndim=conv.rank + 2, axes={_channel_axis(conv): conv.filters})

    def build(self, input_shape):
        self.compute_output_shape(input_shape)  # raises if the convolution makes no such map

    def call(self, inputs):
        conv, mode = self.conv, getattr(self.conv, "padding_mode", "zeros")
        kernel = ops.cast(conv.kernel, inputs.dtype)  # the two layers may differ in dtype policy
        _, amounts, unused = zip(*self._axes(inputs.shape), strict=True)
        if mode == "zeros":  # to drop the padding is its transpose
            crops = [(before, after - more) for (before, after), more in zip(amounts, unused, strict=True)]
            return transposed_convolution(inputs, conv, kernel, crops)
        padded = transposed_convolution(inputs, conv, kernel, [(0, -more) for more in unused])
        return fold(padded, amounts, mode, _first_axis(conv))

    def compute_output_shape(self, input_shape):
        if not self.conv.built:
            remedy = "Call or build the convolution first: its kernel is the one that is used here."
            raise ValueError(arguments.message(type(self).__name__, "conv", "built", self.conv, remedy))
        sizes = [size for size, _, _ in self._axes(input_shape)]
        channels = self.conv.kernel.shape[-2] * self.conv.groups
        if self.conv.data_format == "channels_first":
            return (input_shape[0], channels, *sizes)
        return (input_shape[0], *sizes, channels)

    def _axes(self, input_shape):
        """For each axis: output size, (before, after) padding of `conv` there, and cells that its stride left out."""
        conv, owner = self.conv, type(self).__name__
        spatial = slice(_first_axis(conv), _first_axis(conv) + conv.rank)
        targets = self.output_size or conv.get_build_config()["input_shape"][spatial]
        arithmetic = zip(conv.kernel_size, conv.strides, axis_paddings(conv), conv.dilation_rate, strict=True)
        return [
            _axis(owner, size, target, *axis)
            for size, target, axis in zip(input_shape[spatial], targets, arithmetic, strict=True)
        ]

    def get_config(self):
        conv = keras.saving.serialize_keras_object(self.conv)
        return {**super().get_config(), "conv": conv, "output_size": self.output_size}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "conv": keras.saving.deserialize_keras_object(config["conv"])})


def _axis(owner, size, target, kernel_size, strides, padding, dilation_rate):
    """`_ConvAdjoint._axes` for one axis of an input of `size` and an output of `target`; None: unknown, and to choose."""
    rest = (kernel_size, strides, padding, dilation_rate)
    known = size is not None or target is not None
    if target is None:
        # What the stride leaves out of such a size is always the same, so that any stands for an unknown one.
        any_size = 1 + sum(geometry.padding_amounts(strides, *rest))
        target = geometry.transposed_output_size(size or any_size, *rest)
    made = geometry.output_size(target, *rest)
    if size not in (None, made):
        expected = f"a size of which the convolution makes {size}, the size of the input (it makes {made})"
        remedy = "Pass output_size=, or the output of the convolution."
        raise ValueError(arguments.message(owner, "output_size", expected, target, remedy))
    amounts = geometry.padding_amounts(target, *rest)
    reached = (made - 1) * strides + geometry.effective_kernel_size(kernel_size, dilation_rate)
    return target if known else None, amounts, target + sum(amounts) - reached


def _same_output_padding(conv, crops):
    """The `output_padding` with which "same" of `keras.ops.conv_transpose` drops just `crops`; None if none does.

    It takes half the time of "valid" and a crop after it.
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
    """Exact transpose of a `Conv1D` layer, sharing its kernel: see `ConvAdjoint2D`.

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

    With C the convolution without bias and activation, this is C*, the map with

        <C x, y> = <x, C* y>    for all x and y

    for every stride, padding, padding mode, dilation and number of groups, and for sizes that the stride does not
    divide. It ties the weights of an encoder and its decoder, and is one step of unrolled optimisation: the gradient of
    |C x - y|^2 / 2 is C*(C x - y). It differs from `keras.layers.Conv2DTranspose` in having no weights of its own, and
    in giving back the very size that the convolution came from. Gradients reach the kernel through both layers, and
    `trainable = False` on either side counts for both: on this layer it freezes the convolution too.

    A `.keras` file keeps the one kernel where both layers stand in one flat graph. Where the convolution lies in a nested
    model, such as an encoder called as a layer, Keras fails to load the file, as it does for any layer that two models
    share. Then build the autoencoder flat and take the encoder out of it, `keras.Model(model.inputs, code)`; or save the
    weights alone and load them into the model built anew. `keras.models.clone_model` and `from_config`, which copy layer
    by layer, give the copy of this layer a kernel of its own.

    Args:
        conv: A `keras.layers.Conv2D` or a subclass, called or built before this layer is.
        output_size: Height and width of the output (one int: both). None: the size of the first map that `conv` saw,
            which Keras keeps; along an axis whose size was unknown then, `geometry.transposed_output_size`, as
            `Conv2DTranspose` gives.
    Call arguments:
        inputs: Shape of an output of `conv`: `(batch, height, width, conv.filters)` if it is channels_last.
    Output shape: `(batch, *output_size, channels)`, the shape of an input of `conv`.
    Raises:
        ValueError: If `conv` is not such a layer; if it is not built in time; if it makes another size than that of
            `inputs` out of `output_size`.
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
    """Exact transpose of a `Conv3D` layer, sharing its kernel: see `ConvAdjoint2D`.

    Example:
        >>> conv = keras.layers.Conv3D(8, 3, strides=2)
        >>> y = conv(keras.ops.ones((1, 7, 8, 9, 2)))
        >>> tuple(ConvAdjoint3D(conv)(y).shape)
        (1, 7, 8, 9, 2)
    """

    _transposes = keras.layers.Conv3D
