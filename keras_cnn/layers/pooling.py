"""Pooling that Keras lacks: the minimum of a window, the minimum of a map, and downsampling after a blur."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_cnn import arguments, geometry

_register = keras.saving.register_keras_serializable(package="keras_cnn")


@ops.custom_gradient
def _mirror(x):
    """-x, with a gradient of +1 instead of -1: a maximum between two of these has the exact gradient of the minimum.

    The two wrong signs cancel. Gradients negated twice instead cost a twentieth of the time of a training step of the
    layer, in passes over memory.
    """
    return -x, lambda upstream: upstream


class _Minimum:
    """The layer of Keras that follows in the order of inheritance, for the minimum: min(x) = -max(-x).

    Hence padding, NaN and infinities are treated as there.
    """

    def call(self, inputs):
        return _mirror(super().call(_mirror(inputs)))


@_register
class MinPooling1D(_Minimum, keras.layers.MaxPooling1D):
    """Minimum of each window along one axis: see `MinPooling2D`."""


@_register
class MinPooling2D(_Minimum, keras.layers.MaxPooling2D):
    """Minimum of each window of a feature map.

    Dark details on a bright ground (ink, cracks, cells) survive it as bright ones survive max pooling. In the words of
    mathematical morphology it is an erosion, y[i, j, c] = min over the window of x. The padding of "same" never is the
    minimum, and NaN and infinities go through as in `keras.layers.MaxPooling2D`, of which it is the mirror image.

    Args:
        pool_size, strides, padding, data_format: As in `keras.layers.MaxPooling2D`; `strides=None` is `pool_size`.
    Call arguments:
        inputs: `(batch, height, width, channels)`, or `(batch, channels, height, width)` if channels_first.
    Output shape: as `keras.layers.MaxPooling2D` gives, e.g. `(batch, ceil(height / strides), ...)` with "same".
    Example:
        >>> x = keras.ops.reshape(keras.ops.arange(16.0), (1, 4, 4, 1))
        >>> keras.ops.convert_to_numpy(MinPooling2D(2)(x)).ravel().tolist()
        [0.0, 2.0, 8.0, 10.0]
    """


@_register
class MinPooling3D(_Minimum, keras.layers.MaxPooling3D):
    """Minimum of each window along three axes: see `MinPooling2D`."""


@_register
class GlobalMinPooling1D(_Minimum, keras.layers.GlobalMaxPooling1D):
    """Minimum of each channel along one axis: see `GlobalMinPooling2D`."""


@_register
class GlobalMinPooling2D(_Minimum, keras.layers.GlobalMaxPooling2D):
    """Minimum of each channel over the whole feature map.

    Args:
        data_format, keepdims: As in `keras.layers.GlobalMaxPooling2D`.
    Call arguments:
        inputs: `(batch, height, width, channels)`, or `(batch, channels, height, width)` if channels_first.
    Output shape: `(batch, channels)`; with `keepdims` the spatial axes stay, of size 1.
    Example:
        >>> tuple(GlobalMinPooling2D()(keras.ops.ones((2, 7, 7, 32))).shape)
        (2, 32)
    """


@_register
class GlobalMinPooling3D(_Minimum, keras.layers.GlobalMaxPooling3D):
    """Minimum of each channel along three axes: see `GlobalMinPooling2D`."""


def binomial(size: int) -> np.ndarray:
    """The row of Pascal's triangle with `size` numbers, divided by their sum 2^(size - 1): [1, 2, 1] / 4 for 3."""
    row = np.ones(1)
    for _ in range(size - 1):
        row = np.convolve(row, [0.5, 0.5])
    return row


@_register
class BlurPool2D(keras.layers.Layer):
    """Downsampled feature map, blurred first, so that a shifted image gives shifted features.

    A stride alone folds fine detail into coarse patterns that jump when the image moves by a pixel. In place of a
    strided convolution or pooling, use it with stride 1 and this layer after it. Each channel is convolved with the
    outer product of two rows of Pascal's triangle, [1, 2, 1] / 4 for `pool_size=3`, then subsampled.

    It is an average pooling with binomial weights: with "same" the weights that lie on the map are divided by their
    sum, so that a constant map stays constant up to its border. Differs from the paper's code in that border, which is
    a reflection there, and in the place of the "same" padding, which is TensorFlow's.

    Args:
        pool_size: Size of the filter, an int or one for each axis. 2 is a mean, 3 the paper's "Triangle-3", 5 its
            "Binomial-5".
        strides: An int, the same for both axes.
        padding: "same" or "valid".
        data_format: "channels_last", "channels_first" or None, the setting of `keras.config`.
    Call arguments:
        inputs: `(batch, height, width, channels)`, or `(batch, channels, height, width)` if channels_first.
    Output shape: `(batch, ceil(height / strides), ceil(width / strides), channels)` with "same".
    Raises:
        ValueError: If an argument is not one of these, or if the filter is larger than the map with "valid".
    Example:
        >>> tuple(BlurPool2D()(keras.ops.ones((1, 15, 16, 8))).shape)
        (1, 8, 8, 8)

    Reference: Zhang, 2019, *Making Convolutional Networks Shift-Invariant Again*, arXiv:1904.11486, section 3.2.
    """

    def __init__(self, pool_size=3, strides=2, padding="same", data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.pool_size = arguments.per_axis("BlurPool2D", "pool_size", pool_size, 2)
        self.strides = arguments.per_axis("BlurPool2D", "strides", strides, 2)
        if self.strides[0] != self.strides[1]:  # TensorFlow 2.21 refuses two strides, on CPU in float16
            raise ValueError(arguments.message("BlurPool2D", "strides", "the same for both axes", strides))
        self.padding = arguments.one_of("BlurPool2D", "padding", padding, ("same", "valid"))
        data_format = data_format or keras.config.image_data_format()
        self.data_format = arguments.one_of("BlurPool2D", "data_format", data_format, arguments.DATA_FORMATS)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape):
        self.compute_output_shape(input_shape)  # raises if the filter is larger than the map

    def call(self, inputs):
        blurred = self._filter(inputs)
        if self.padding == "valid":
            return blurred
        # The weights on the map, once for all examples and channels: a product of one row and one column.
        one = ops.ones_like(inputs[:1, :1] if self.data_format == "channels_first" else inputs[:1, :, :, :1])
        return blurred / self._filter(one)

    def _filter(self, x):
        channels = x.shape[1 if self.data_format == "channels_first" else -1]
        weights = np.outer(*map(binomial, self.pool_size))[:, :, None, None]
        kernel = ops.convert_to_tensor(np.repeat(weights, channels, axis=2), x.dtype)
        return ops.depthwise_conv(x, kernel, self.strides, self.padding, self.data_format)

    def compute_output_shape(self, input_shape):
        first = self.data_format == "channels_first"
        spatial = slice(2, 4) if first else slice(1, 3)
        shape = list(input_shape)
        axes = zip(shape[spatial], self.pool_size, self.strides, (self.padding,) * 2, strict=True)
        shape[spatial] = [geometry.output_size(*axis) for axis in axes]
        return tuple(shape)

    def get_config(self):
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
        }
