"""Every public layer, in the forms that differ in arithmetic: `tests/layers/test_layers.py` puts each through one contract."""

from functools import partial
from typing import NamedTuple

import keras

from keras_cnn import layers

SHAPES = {1: (7, 4), 2: (7, 6, 4), 3: (5, 4, 6, 4)}  # odd, even, not square


class Case(NamedTuple):
    """A layer and the input it gets.

    Attributes:
        make: The layer from `dtype=` and, if `has_data_format`, `data_format=`.
        shape: Sizes and channels of one example, channels last.
        any_size: Whether the layer takes other sizes than those of `shape`.
        has_data_format: False for a layer that is the same for each order of axes.
    """

    make: object
    shape: tuple
    any_size: bool = True
    has_data_format: bool = True

    @property
    def name(self) -> str:
        return self.make.args[1].__name__ if self.make.func is _adjoint else self.make.func.__name__


def _adjoint(conv, layer_class, shape, data_format=None, **kwargs):
    convolution = conv(data_format=data_format, use_bias=False)
    first = (data_format or keras.config.image_data_format()) == "channels_first"
    convolution.build((None, shape[-1], *shape[:-1]) if first else (None, *shape))
    return layer_class(convolution, **kwargs)


def _case(rank, layer_class, *args, has_data_format=True, **kwargs):
    return Case(partial(layer_class, *args, **kwargs), SHAPES[rank], has_data_format=has_data_format)


def _adjoint_case(input_shape, layer_class, conv, output_shape):
    return Case(partial(_adjoint, conv, layer_class, output_shape), input_shape, any_size=False)


CASES = {
    "conv1d": _case(1, layers.Conv1D, 3, 3, strides=2, padding=(2, 1)),
    "conv1d_causal": _case(1, layers.Conv1D, 3, 3, padding="causal", dilation_rate=2, padding_mode="replicate"),
    "conv2d": _case(2, layers.Conv2D, 3, 3, strides=2, padding=1, activation="relu"),
    "conv2d_same": _case(2, layers.Conv2D, 3, 3, strides=2, padding="same"),
    "conv2d_uneven": _case(2, layers.Conv2D, 3, (2, 3), padding=((0, 2), 1), dilation_rate=(1, 2), use_bias=False),
    "conv2d_groups": _case(2, layers.Conv2D, 4, 3, padding=1, groups=2),
    "conv2d_reflect": _case(2, layers.Conv2D, 3, 3, padding=(1, 2), padding_mode="reflect"),
    "conv2d_replicate": _case(2, layers.Conv2D, 3, 3, padding=2, padding_mode="replicate"),
    "conv2d_circular": _case(2, layers.Conv2D, 3, 3, padding="same", padding_mode="circular"),
    "conv2d_dilated_stride": _case(2, layers.Conv2D, 3, (3, 2), strides=(2, 3), padding=2, dilation_rate=(2, 2)),
    "conv3d": _case(3, layers.Conv3D, 3, 3, strides=(1, 2, 2), padding=(0, 1, 1)),
    "conv_adjoint1d": _adjoint_case((4, 3), layers.ConvAdjoint1D, partial(layers.Conv1D, 3, 3, 2, 1), (7, 4)),
    "conv_adjoint2d": _adjoint_case((3, 3, 3), layers.ConvAdjoint2D, partial(layers.Conv2D, 3, 3, 2), (7, 8, 4)),
    "conv_adjoint2d_same": _adjoint_case(
        (3, 4, 3), layers.ConvAdjoint2D, partial(keras.layers.Conv2D, 3, 3, 2, "same"), (6, 8, 4)
    ),
    "conv_adjoint2d_reflect": _adjoint_case(
        (7, 6, 4),
        layers.ConvAdjoint2D,
        partial(layers.Conv2D, 4, 3, padding=1, padding_mode="reflect", groups=2),
        (7, 6, 4),
    ),
    "conv_adjoint3d": _adjoint_case(
        (2, 2, 3, 3), layers.ConvAdjoint3D, partial(layers.Conv3D, 3, 3, 2, 1), (3, 4, 5, 4)
    ),
    "min_pooling1d": _case(1, layers.MinPooling1D, 3, strides=2, padding="same"),
    "min_pooling2d": _case(2, layers.MinPooling2D, 2),
    "min_pooling2d_same": _case(2, layers.MinPooling2D, 3, strides=2, padding="same"),
    "min_pooling3d": _case(3, layers.MinPooling3D, 2, strides=1, padding="same"),
    "global_min_pooling1d": _case(1, layers.GlobalMinPooling1D),
    "global_min_pooling2d": _case(2, layers.GlobalMinPooling2D, keepdims=True),
    "global_min_pooling3d": _case(3, layers.GlobalMinPooling3D),
    "blur_pool2d": _case(2, layers.BlurPool2D),
    "blur_pool2d_valid": _case(2, layers.BlurPool2D, pool_size=(2, 5), strides=1, padding="valid"),
    "squeeze_excite": _case(2, layers.SqueezeExcite, ratio=1),
    "squeeze_excite3d": _case(3, layers.SqueezeExcite, ratio=16, activation="silu", gate_activation="hard_sigmoid"),
    "stochastic_depth": _case(2, layers.StochasticDepth, 0.25, seed=1, has_data_format=False),
}
