"""Layers that work in any Keras 3 model."""

from keras_cnn.layers.adjoint import ConvAdjoint1D, ConvAdjoint2D, ConvAdjoint3D
from keras_cnn.layers.attention import SqueezeExcite
from keras_cnn.layers.convolution import Conv1D, Conv2D, Conv3D
from keras_cnn.layers.hub import HubLayer
from keras_cnn.layers.pooling import (
    BlurPool2D,
    GlobalMinPooling1D,
    GlobalMinPooling2D,
    GlobalMinPooling3D,
    MinPooling1D,
    MinPooling2D,
    MinPooling3D,
)
from keras_cnn.layers.regularization import StochasticDepth

__all__ = [
    "BlurPool2D",
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "ConvAdjoint1D",
    "ConvAdjoint2D",
    "ConvAdjoint3D",
    "GlobalMinPooling1D",
    "GlobalMinPooling2D",
    "GlobalMinPooling3D",
    "HubLayer",
    "MinPooling1D",
    "MinPooling2D",
    "MinPooling3D",
    "SqueezeExcite",
    "StochasticDepth",
]


def __dir__() -> list[str]:
    return __all__
