"""Known arrangements of layers: functions of a tensor that return a tensor.

Every layer is visible in the graph, with the `name` of the block as prefix.
"""

from keras_cnn.blocks.branches import inception
from keras_cnn.blocks.convolution import conv_norm_act
from keras_cnn.blocks.separable import depthwise_separable, inverted_residual
from keras_cnn.blocks.shortcuts import bottleneck, residual
from keras_cnn.blocks.upsampling import upsample

__all__ = [
    "bottleneck",
    "conv_norm_act",
    "depthwise_separable",
    "inception",
    "inverted_residual",
    "residual",
    "upsample",
]


def __dir__() -> list[str]:
    return __all__
