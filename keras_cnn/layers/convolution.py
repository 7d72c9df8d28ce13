"""Keras' convolutions with numeric padding and padding modes, for 1, 2 and 3 axes.

Padding with zeros is part of the convolution wherever `keras.ops.conv` can express it: amounts that equal "same" for
the size at hand are passed as "same". Others are a padding op before a "valid" convolution, which XLA merges into the
convolution (GPU training steps, JAX). TensorFlow's `tf.nn.conv2d` would take the amounts, but is no faster forward on
CPU, and its filter gradient is 1.2 to 2.5 times slower with them (TensorFlow 2.21).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
from keras import ops

from keras_cnn import arguments, geometry

Amounts = Sequence[tuple[int, int]]  # (before, after) per axis

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
_register = keras.saving.register_keras_serializable(package="keras_cnn")


def pad(x: Any, amounts: Amounts, mode: str = "zeros", first_axis: int = 1) -> Any:
    """`x` with (before, after) more cells along the axes from `first_axis`; negative amounts of zeros crop.

    `mode` names what the new cells of the row a b c d hold:

        "zeros" 0 0 | a b c d     "reflect" c b | a b c d     "replicate" a a | a b c d     "circular" c d | a b c d
    """
    widths = [(0, 0)] * first_axis + [(max(before, 0), max(after, 0)) for before, after in amounts]
    widths += [(0, 0)] * (x.ndim - len(widths))
    if mode in ("zeros", "reflect"):
        crop = (slice(None),) * first_axis + tuple(slice(max(-b, 0), a if a < 0 else None) for b, a in amounts)
        x = x[crop] if min(map(min, amounts)) < 0 else x
        return ops.pad(x, widths, "constant" if mode == "zeros" else "reflect") if any(map(any, widths)) else x
    for axis, (before, after) in enumerate(widths):
        if before or after:
            padded = ops.concatenate(_with_borders(x, axis, before, after, mode), axis)
            if x.shape[axis] is None:  # the reshape fails at run time if there are too few cells to copy
                sizes = [size + (before + after) * (a == axis) for a, size in enumerate(ops.shape(x))]
                padded = ops.reshape(padded, sizes)
            x = padded
    return x


def _with_borders(x, axis, before, after, mode):
    def cells(start, stop):
        return x[(slice(None),) * axis + (slice(start, stop),)]

    if mode == "replicate":
        return [cells(0, 1)] * before + [x] + [cells(-1, None)] * after
    return [cells(-before, None)] * (before > 0) + [x] + [cells(0, after)] * (after > 0)


def convolve(
    x: Any, kernel: Any, strides: Sequence[int], amounts: Amounts, dilation_rate: Sequence[int], data_format: str
) -> Any:
    """`keras.ops.conv` with (before, after) zeros along each axis; groups as `keras.ops.conv` infers them."""
    first = data_format == "channels_first"
    if max(strides) > 1 and max(dilation_rate) > 1:
        x = pad(x, amounts, first_axis=2 if first else 1)
        return _dilated_with_stride(x, kernel, strides, dilation_rate, first)
    sizes = x.shape[2:] if first else x.shape[1:-1]
    axes = zip(sizes, kernel.shape, strides, ("same",) * len(sizes), dilation_rate, strict=False)
    if not any(map(any, amounts)):
        padding = "valid"
    elif tuple(amounts) == tuple(geometry.padding_amounts(*axis) for axis in axes):
        padding = "same"
    else:
        x = pad(x, amounts, first_axis=2 if first else 1)
        padding = "valid"
    return ops.conv(x, kernel, strides, padding, data_format, dilation_rate)


def _dilated_with_stride(x, kernel, strides, dilation_rate, first):
    """The "valid" convolution, which Keras does not offer: its taps lie on every gcd(stride, dilation)-th cell only.

    On those cells alone, stride or dilation is 1 wherever one divides the other. Otherwise the map is convolved with
    stride 1 and subsampled.
    """
    common = list(map(math.gcd, strides, dilation_rate))
    strides = [stride // divisor for stride, divisor in zip(strides, common, strict=True)]
    dilation_rate = [rate // divisor for rate, divisor in zip(dilation_rate, common, strict=True)]
    both = max(strides) > 1 and max(dilation_rate) > 1
    data_format = "channels_first" if first else "channels_last"
    y = ops.conv(_every(x, common, first), kernel, 1 if both else strides, "valid", data_format, dilation_rate)
    return _every(y, strides, first) if both else y


def _every(x, steps, first):
    return x[(slice(None),) * (2 if first else 1) + tuple(slice(None, None, step) for step in steps)]


def axis_paddings(conv: keras.layers.Layer) -> tuple:
    """One padding per axis, as `keras_cnn.geometry` takes it, of any `keras.layers.Conv*` or `kc.layers.Conv*`."""
    if conv.padding == "causal":
        return (((conv.kernel_size[0] - 1) * conv.dilation_rate[0], 0),)
    return (conv.padding,) * conv.rank if isinstance(conv.padding, str) else conv.padding


class _Convolution:
    """What all ranks add to the class of Keras that is next in the order of inheritance."""

    rank: int

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] = 1,
        padding: str | int | tuple[int | tuple[int, int], ...] = "valid",
        data_format: Literal["channels_last", "channels_first"] | None = None,
        dilation_rate: int | tuple[int, ...] = 1,
        groups: int = 1,
        activation: str | Callable | None = None,
        use_bias: bool = True,
        kernel_initializer: str | keras.Initializer = "glorot_uniform",
        bias_initializer: str | keras.Initializer = "zeros",
        kernel_regularizer: str | keras.Regularizer | None = None,
        bias_regularizer: str | keras.Regularizer | None = None,
        activity_regularizer: str | keras.Regularizer | None = None,
        kernel_constraint: str | Callable | None = None,
        bias_constraint: str | Callable | None = None,
        *,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            filters=filters,
            kernel_size=kernel_size,
            strides=1,  # Keras does not allow a stride together with dilation
            padding="valid",
            data_format=data_format,
            dilation_rate=dilation_rate,
            groups=groups,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            **kwargs,
        )
        owner = type(self).__name__
        words = (*arguments.PADDING_WORDS, "causal") if self.rank == 1 else arguments.PADDING_WORDS
        self.strides = arguments.per_axis(owner, "strides", strides, self.rank)
        self.padding = arguments.padding(owner, padding, self.rank, words)
        self.padding_mode = arguments.one_of(owner, "padding_mode", padding_mode, PADDING_MODES)
        self._check_same_padding(owner)

    def _check_same_padding(self, owner: str) -> None:
        """ValueError where the amounts of "same" would depend on the size of the input in more than one way."""
        with_mode = f'padding_mode="{self.padding_mode}"' if self.padding_mode != "zeros" else None
        cause = with_mode or ("dilation" if max(self.dilation_rate) > 1 else None)
        if self.padding == "same" and max(self.strides) > 1 and cause:
            halves = tuple((k - 1) * d // 2 for k, d in zip(self.kernel_size, self.dilation_rate, strict=True))
            remedy = f'How much "same" pads depends on the input size; padding={halves} is the usual choice.'
            raise ValueError(arguments.message(owner, "padding", f"numeric with {cause} and a stride", "same", remedy))

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        self.compute_output_shape(inputs.shape)  # raises if this map, unlike that of `build`, is too small
        if self.padding_mode == "zeros" and self.padding == "same":
            return super().convolution_op(inputs, kernel)
        axes = zip(self.kernel_size, self.strides, axis_paddings(self), self.dilation_rate, strict=True)
        amounts = [geometry.padding_amounts(None, *axis) for axis in axes]
        if self.padding_mode != "zeros":
            inputs = pad(inputs, amounts, self.padding_mode, 2 if self.data_format == "channels_first" else 1)
            amounts = [(0, 0)] * self.rank
        return convolve(inputs, kernel, self.strides, amounts, self.dilation_rate, self.data_format)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        first = self.data_format == "channels_first"
        sizes = input_shape[2:] if first else input_shape[1:-1]
        axes = zip(sizes, self.kernel_size, self.strides, axis_paddings(self), self.dilation_rate, strict=True)
        sizes = [self._axis_output_size(*axis) for axis in axes]
        return (input_shape[0], self.filters, *sizes) if first else (input_shape[0], *sizes, self.filters)

    def _axis_output_size(self, size, kernel_size, strides, padding, dilation_rate):
        """As `geometry.output_size`; "reflect" and "circular" cannot take more cells than there are."""
        border = {"reflect": 1, "circular": 0}.get(self.padding_mode)
        if size is not None and border is not None:
            amounts = geometry.padding_amounts(size, kernel_size, strides, padding, dilation_rate)
            if max(amounts) > size - border:
                expected = f"at most {size - border} with padding_mode={self.padding_mode!r} on an axis of {size}"
                remedy = "Use less padding, a larger input or another mode."
                raise ValueError(arguments.message(type(self).__name__, "padding", expected, self.padding, remedy))
        return geometry.output_size(size, kernel_size, strides, padding, dilation_rate)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "padding_mode": self.padding_mode}


@_register
class Conv1D(_Convolution, keras.layers.Conv1D):
    """Convolution along one axis, with numeric padding and padding modes.

    `keras.layers.Conv1D` with two more choices, `padding` and `padding_mode`; the weights are the same.

    Args:
        filters: Number of output channels.
        kernel_size: Length of the window, an int.
        strides: Steps from one window to the next, an int. A stride can be combined with dilation.
        padding: "valid" (none), "same" (output size ceil(steps / strides)), "causal" (all before the data, so that no
            output depends on later steps), an int (on both sides), or a pair (before, after).
        data_format: "channels_last", "channels_first" or None, the setting of `keras.config`.
        dilation_rate: Distance from one tap of the kernel to the next, an int.
        groups: Number of groups of channels that are convolved separately. It divides the input channels and `filters`.
        activation: Function or name of a function that is applied to the output. None: no activation.
        use_bias: Whether a bias is added to the output.
        kernel_initializer, bias_initializer: Initial values of the weights.
        kernel_regularizer, bias_regularizer, activity_regularizer: Penalties on the weights and on the output.
            None: no penalty.
        kernel_constraint, bias_constraint: Functions of the weights that are applied after each update. None: nothing.
        padding_mode: What the padding holds. "zeros"; "reflect": the data reflected at its border cell; "replicate":
            the border cell; "circular": the other end of the data. The names are those of PyTorch.
        kwargs: `name`, `dtype` and `trainable`, as in every layer.
    Call arguments:
        inputs: `(batch, steps, channels)`, or `(batch, channels, steps)` if channels_first.
    Output shape: `(batch, floor((steps + P - ((K - 1) * d + 1)) / S) + 1, filters)`, P the padding of both sides.
    Raises:
        ValueError: If `padding` is not one of these; if the kernel is larger than the padded input; if "same" with a
            stride meets dilation or a mode other than "zeros"; if "reflect" or "circular" would take more cells than
            there are.
    Example:
        >>> tuple(Conv1D(8, 3, padding=(2, 0))(keras.ops.ones((1, 10, 4))).shape)
        (1, 10, 8)

    Reference: Dumoulin & Visin, 2016, arXiv:1603.07285, relationship 6.
    """

    def call(self, inputs: Any) -> Any:
        # Keras' Conv1D.call does not use `convolution_op`; the call of its parent class does.
        return super(keras.layers.Conv1D, self).call(inputs)


@_register
class Conv2D(_Convolution, keras.layers.Conv2D):
    """Convolution along two axes, with numeric padding and padding modes.

    `keras.layers.Conv2D` with two more choices, `padding` and `padding_mode`; the weights are the same. With a stride,
    "same" pads by an amount that depends on the input size, and on one side more than on the other. A number pads
    equally for every size, as in PyTorch, Caffe and the ResNet paper: weights ported from there need it.

    Args:
        filters: Number of output channels.
        kernel_size: Height and width of the window, an int or a pair.
        strides: Rows and columns from one window to the next, an int or a pair. A stride can be combined with dilation.
        padding: "valid" (none), "same" (output size ceil(size / strides)), an int (on all sides), or one entry per
            axis, each an int or a pair (before, after). (1, 2) is height 1, width 2; ((0, 2), (1, 1)) gives both sides
            of both axes. The attribute holds the pairs.
        data_format: "channels_last", "channels_first" or None, the setting of `keras.config`.
        dilation_rate: Distance from one tap of the kernel to the next, an int or a pair.
        groups: Number of groups of channels that are convolved separately. It divides the input channels and `filters`.
        activation: Function or name of a function that is applied to the output. None: no activation.
        use_bias: Whether a bias is added to the output.
        kernel_initializer, bias_initializer: Initial values of the weights.
        kernel_regularizer, bias_regularizer, activity_regularizer: Penalties on the weights and on the output.
            None: no penalty.
        kernel_constraint, bias_constraint: Functions of the weights that are applied after each update. None: nothing.
        padding_mode: What the padding holds. "zeros"; "reflect": the map reflected at its border cell; "replicate": the
            border cell; "circular": the other end of the map. The names are those of PyTorch.
        kwargs: `name`, `dtype` and `trainable`, as in every layer.
    Call arguments:
        inputs: `(batch, height, width, channels)`, or `(batch, channels, height, width)` if channels_first.
    Output shape: `(batch, new_height, new_width, filters)`, each new size floor((W + P - ((K - 1) * d + 1)) / S) + 1
        with P the padding of both sides (`keras_cnn.geometry.output_size`).
    Raises:
        ValueError: If `padding` is not one of these; if the kernel is larger than the padded input; if "same" with a
            stride meets dilation or a mode other than "zeros"; if "reflect" or "circular" would take more cells than
            the map has.
    Example:
        >>> tuple(Conv2D(64, 7, strides=2, padding=3)(keras.ops.ones((1, 224, 224, 3))).shape)
        (1, 112, 112, 64)

    Reference: Dumoulin & Visin, 2016, *A guide to convolution arithmetic for deep learning*, arXiv:1603.07285,
        relationship 6, and 15 with dilation.
    """


@_register
class Conv3D(_Convolution, keras.layers.Conv3D):
    """Convolution along three axes, with numeric padding and padding modes.

    `keras.layers.Conv3D` with two more choices, `padding` and `padding_mode`; the weights are the same.

    Args:
        filters: Number of output channels.
        kernel_size: Depth, height and width of the window, an int or three of them.
        strides: Cells from one window to the next, an int or three of them. A stride can be combined with dilation.
        padding: "valid" (none), "same" (output size ceil(size / strides)), an int (on all sides), or one entry per
            axis, each an int or a pair (before, after).
        data_format: "channels_last", "channels_first" or None, the setting of `keras.config`.
        dilation_rate: Distance from one tap of the kernel to the next, an int or three of them.
        groups: Number of groups of channels that are convolved separately. It divides the input channels and `filters`.
        activation: Function or name of a function that is applied to the output. None: no activation.
        use_bias: Whether a bias is added to the output.
        kernel_initializer, bias_initializer: Initial values of the weights.
        kernel_regularizer, bias_regularizer, activity_regularizer: Penalties on the weights and on the output.
            None: no penalty.
        kernel_constraint, bias_constraint: Functions of the weights that are applied after each update. None: nothing.
        padding_mode: What the padding holds. "zeros"; "reflect": the map reflected at its border cell; "replicate": the
            border cell; "circular": the other end of the map. The names are those of PyTorch.
        kwargs: `name`, `dtype` and `trainable`, as in every layer.
    Call arguments:
        inputs: `(batch, depth, height, width, channels)`, or `(batch, channels, depth, height, width)` if
            channels_first.
    Output shape: `(batch, new_depth, new_height, new_width, filters)`, each new size as in `Conv2D`.
    Raises:
        ValueError: As in `Conv2D`.
    Example:
        >>> tuple(Conv3D(4, 3, padding=(0, 1, 1))(keras.ops.ones((1, 5, 8, 8, 2))).shape)
        (1, 3, 8, 8, 4)

    Reference: Dumoulin & Visin, 2016, arXiv:1603.07285, relationship 6.
    """
