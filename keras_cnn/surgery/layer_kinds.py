"""Layers with a kernel, by the axes of the kernel along which their input and output channels lie.

Only the classes themselves are listed: a subclass may use its kernel differently.
"""

from __future__ import annotations

import keras

from keras_cnn import layers

CONVOLUTIONS = {
    *(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D),
    *(layers.Conv1D, layers.Conv2D, layers.Conv3D),
}
TRANSPOSED = {keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose}
DEPTHWISE = {keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D}
SEPARABLE = {keras.layers.SeparableConv1D, keras.layers.SeparableConv2D}
DENSE = {keras.layers.Dense}
