"""Pooling that Keras lacks: the minimum of a window, the minimum of a map, and downsampling after a blur."""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_cnn import arguments, geometry

_register = keras.saving.register_keras_serializable(package="keras_cnn")


@ops.custom_gradient
def _negative(x):
    """-x, with a gradient of +1 instead of -1: a maximum between two of these has the exact gradient of the minimum.

    The two wrong signs cancel. Gradients that are negated twice instead cost a twentieth of the time of a training step
    of the layer, in passes over memory.
    """
    return -x, lambda upstream: upstream


class _Minimum:
    """The layer of Keras that is next in the order of inheritance, for the minimum: min(x) = -max(-x).

    So padding, NaN and infinities are treated as in that layer.
    """

    def call(self, inputs: Any) -> Any:
        return _negative(super().call(_negative(inputs)))


class _MinPooling(_Minimum):
    def __init__(
        self,
        pool_size: int | tuple[int, ...] = 2,
        strides: int | tuple[int, ...] | None = None,
        padding: Literal["valid", "same"] = "valid",
        data_format: Literal["channels_last", "channels_first"] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, 1, data_format=data_format, name=name, **kwargs)
        owner = type(self).__name__
        rank = len(self.pool_size)
        self.strides = arguments.per_axis(owner, "strides", pool_size if strides is None else strides, rank)
        word = padding.lower() if isinstance(padding, str) else padding
        self.padding = arguments.one_of(owner, "padding", word, arguments.PADDING_WORDS)

    def call(self, inputs: Any) -> Any:
        self.compute_output_shape(inputs.shape)  # raises if the window is larger than the map
        return super().call(inputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        spatial = slice(2, None) if self.data_format == "channels_first" else slice(1, -1)
        shape = list(input_shape)
        axes = zip(shape[spatial], self.pool_size, self.strides, strict=True)
        shape[spatial] = [geometry.output_size(*axis, self.padding) for axis in axes]
        return tuple(shape)


class _GlobalMinPooling(_Minimum):
    def __init__(
        self,
        data_format: Literal["channels_last", "channels_first"] | None = None,
        keepdims: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, keepdims=keepdims, **kwargs)


@_register
class MinPooling1D(_MinPooling, keras.layers.MaxPooling1D):
    """Minimum of each window along one axis.

    The minimum of a signal, as `keras.layers.MaxPooling1D` is its maximum. The padding of "same" is never the minimum;
    NaN and infinities are treated as in that layer.

    Args:
        pool_size: Length of the window, an int.
        strides: Steps from one window to the next, an int. None: `pool_size`.
        padding: "valid" (none) or "same" (output size ceil(steps / strides)).
        data_format: "channels_last", "channels_first" or None, the setting of `keras.config`.
        name: Name of the layer.
        kwargs: `dtype` and `trainable`, as in every layer.
    Call arguments:
        inputs: `(batch, steps, channels)`, or `(batch, channels, steps)` if channels_first.
    Output shape: `(batch, floor((steps - pool_size) / strides) + 1, channels)`, or `(batch, ceil(steps / strides),
        channels)` with "same".
    Raises:
        ValueError: If an argument is not one of these; if the window is larger than the input and `padding` is "valid".
    Example:
        >>> x = keras.ops.reshape(keras.ops.array([3.0, 1.0, 2.0, 5.0]), (1, 4, 1))
        >>> keras.ops.convert_to_numpy(MinPooling1D(2)(x)).ravel().tolist()
        [1.0, 2.0]
    """


@_register
class MinPooling2D(_MinPooling, keras.layers.MaxPooling2D):
    """Minimum of each window of a feature map.

    Dark details on a bright background (ink, cracks, cells) survive it as bright ones survive max pooling. In
    mathematical morphology it is an erosion, y[i, j, c] = min over the window of x. The padding of "same" is never the
    minimum. NaN and infinities are treated as in `keras.layers.MaxPooling2D`, its counterpart for the maximum.

    Args:
        pool_size: Height and width of the window, an int or a pair.
        strides: Rows and columns from one window to the next, an int or a pair. None: `pool_size`.
        padding: "valid" (none) or "same" (output size ceil(size / strides)).
        data_format: "channels_last", "channels_first" or None, the setting of `keras.config`.
        name: Name of the layer.
        kwargs: `dtype` and `trainable`, as in every layer.
    Call arguments:
        inputs: `(batch, height, width, channels)`, or `(batch, channels, height, width)` if channels_first.
    Output shape: `(batch, new_height, new_width, channels)`, each new size floor((size - pool_size) / strides) + 1, or
        ceil(size / strides) with "same".
    Raises:
        ValueError: If an argument is not one of these; if the window is larger than the input and `padding` is "valid".
    Example:
        >>> x = keras.ops.reshape(keras.ops.arange(16.0), (1, 4, 4, 1))
        >>> keras.ops.convert_to_numpy(MinPooling2D(2)(x)).ravel().tolist()
        [0.0, 2.0, 8.0, 10.0]
    """


@_register
class MinPooling3D(_MinPooling, keras.layers.MaxPooling3D):
    """Minimum of each window along three axes.

    The minimum of a volume, as `keras.layers.MaxPooling3D` is its maximum. The padding of "same" is never the minimum;
    NaN and infinities are treated as in that layer.

    Args:
        pool_size: Depth, height and width of the window, an int or three of them.
        strides: Cells from one window to the next, an int or three of them. None: `pool_size`.
        padding: "valid" (none) or "same" (output size ceil(size / strides)).
        data_format: "channels_last", "channels_first" or None, the setting of `keras.config`.
        name: Name of the layer.
        kwargs: `dtype` and `trainable`, as in every layer.
    Call arguments:
        inputs: `(batch, depth, height, width, channels)`, or `(batch, channels, depth, height, width)` if
            channels_first.
    Output shape: `(batch, new_depth, new_height, new_width, channels)`, each new size as in `MinPooling2D`.
    Raises:
        ValueError: If an argument is not one of these; if the window is larger than the input and `padding` is "valid".
    Example:
        >>> tuple(MinPooling3D(2)(keras.ops.ones((1, 4, 6, 8, 3))).shape)
        (1, 2, 3, 4, 3)
    """


@_register
class GlobalMinPooling1D(_GlobalMinPooling, keras.layers.GlobalMaxPooling1D):
    """Minimum of each channel over all steps.

    Args:
        data_format: "channels_last", "channels_first" or None, the setting of `keras.config`.
        keepdims: Whether the axis of steps stays, with size 1.
        kwargs: `name`, `dtype` and `trainable`, as in every layer.
    Call arguments:
        inputs: `(batch, steps, channels)`, or `(batch, channels, steps)` if channels_first.
    Output shape: `(batch, channels)`; with `keepdims` `(batch, 1, channels)`.
    Example:
        >>> tuple(GlobalMinPooling1D()(keras.ops.ones((2, 9, 32))).shape)
        (2, 32)
    """


@_register
class GlobalMinPooling2D(_GlobalMinPooling, keras.layers.GlobalMaxPooling2D):
    """Minimum of each channel over the whole feature map.

    Args:
        data_format: "channels_last", "channels_first" or None, the setting of `keras.config`.
        keepdims: Whether the axes of height and width stay, with size 1.
        kwargs: `name`, `dtype` and `trainable`, as in every layer.
    Call arguments:
        inputs: `(batch, height, width, channels)`, or `(batch, channels, height, width)` if channels_first.
    Output shape: `(batch, channels)`; with `keepdims` `(batch, 1, 1, channels)`.
    Example:
        >>> tuple(GlobalMinPooling2D()(keras.ops.ones((2, 7, 7, 32))).shape)
        (2, 32)
    """


@_register
class GlobalMinPooling3D(_GlobalMinPooling, keras.layers.GlobalMaxPooling3D):
    """Minimum of each channel over a whole volume.

    Args:
        data_format: "channels_last", "channels_first" or None, the setting of `keras.config`.
        keepdims: Whether the axes of depth, height and width stay, with size 1.
        kwargs: `name`, `dtype` and `trainable`, as in every layer.
    Call arguments:
        inputs: `(batch, depth, height, width, channels)`, or `(batch, channels, depth, height, width)` if
            channels_first.
    Output shape: `(batch, channels)`; with `keepdims` `(batch, 1, 1, 1, channels)`.
    Example:
        >>> tuple(GlobalMinPooling3D()(keras.ops.ones((2, 5, 7, 7, 32))).shape)
        (2, 32)
    """


def binomial(size: int) -> np.ndarray:
    """The row of Pascal's triangle with `size` entries, divided by their sum 2^(size - 1): [1, 2, 1] / 4 for 3."""
    row = np.ones(1)
    for _ in range(size - 1):
        row = np.convolve(row, [0.5, 0.5])
    return row


@_register
class BlurPool2D(keras.layers.Layer):
    """Downsampled feature map, blurred first, so that a shifted image gives shifted features.

    A stride alone turns fine detail into coarse patterns that jump when the image moves by a pixel. Instead of a
    strided convolution or pooling, use the same with stride 1 and this layer after it. Each channel is convolved with
    the outer product of two rows of Pascal's triangle, [1, 2, 1] / 4 for `pool_size=3`, then subsampled.

    It is an average pooling with binomial weights: with "same", the weights that lie on the map are divided by their
    sum, so a constant map stays constant up to its border. Differs from the paper's code in the border, which is a
    reflection there, and in the "same" padding, which follows TensorFlow's rule here.

    Args:
        pool_size: Size of the filter, an int or a pair. 2 is a mean, 3 the paper's "Triangle-3", 5 its "Binomial-5".
        strides: Rows and columns from one output cell to the next, the same for both axes.
        padding: "same" or "valid".
        data_format: "channels_last", "channels_first" or None, the setting of `keras.config`.
        kwargs: `name`, `dtype` and `trainable`, as in every layer.
    Call arguments:
        inputs: `(batch, height, width, channels)`, or `(batch, channels, height, width)` if channels_first.
    Output shape: `(batch, ceil(height / strides), ceil(width / strides), channels)` with "same"; with "valid" each new
        size is floor((size - pool_size) / strides) + 1.
    Raises:
        ValueError: If an argument is not one of these, or if the filter is larger than the map with "valid".
    Example:
        >>> tuple(BlurPool2D()(keras.ops.ones((1, 15, 16, 8))).shape)
        (1, 8, 8, 8)

    Reference: Zhang, 2019, *Making Convolutional Networks Shift-Invariant Again*, arXiv:1904.11486, section 3.2.
    """

    def __init__(
        self,
        pool_size: int | tuple[int, int] = 3,
        strides: int | tuple[int, int] = 2,
        padding: Literal["same", "valid"] = "same",
        data_format: Literal["channels_last", "channels_first"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pool_size = arguments.per_axis("BlurPool2D", "pool_size", pool_size, 2)
        self.strides = arguments.per_axis("BlurPool2D", "strides", strides, 2)
        if self.strides[0] != self.strides[1]:  # TensorFlow 2.21 fails for two strides, on CPU in float16
            raise ValueError(arguments.message("BlurPool2D", "strides", "the same for both axes", strides))
        self.padding = arguments.one_of("BlurPool2D", "padding", padding, ("same", "valid"))
        data_format = data_format or keras.config.image_data_format()
        self.data_format = arguments.one_of("BlurPool2D", "data_format", data_format, arguments.DATA_FORMATS)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.compute_output_shape(input_shape)  # raises if the filter is larger than the map

    def call(self, inputs: Any) -> Any:
        blurred = self._filter(inputs)
        if self.padding == "valid":
            return blurred
        # The sum of the weights on the map, once for all examples and channels: a product of one row and one column.
        one = ops.ones_like(inputs[:1, :1] if self.data_format == "channels_first" else inputs[:1, :, :, :1])
        return blurred / self._filter(one)

    def _filter(self, x):
        channels = x.shape[1 if self.data_format == "channels_first" else -1]
        weights = np.outer(*map(binomial, self.pool_size))[:, :, None, None]
        kernel = ops.convert_to_tensor(np.repeat(weights, channels, axis=2), x.dtype)
        return ops.depthwise_conv(x, kernel, self.strides, self.padding, self.data_format)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        first = self.data_format == "channels_first"
        spatial = slice(2, 4) if first else slice(1, 3)
        shape = list(input_shape)
        axes = zip(shape[spatial], self.pool_size, self.strides, (self.padding,) * 2, strict=True)
        shape[spatial] = [geometry.output_size(*axis) for axis in axes]
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
        }
