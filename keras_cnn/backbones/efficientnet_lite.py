"""EfficientNet-Lite: EfficientNet without squeeze-excite and with ReLU6, made for plain integer hardware.

Tan & Le, 2019, EfficientNet, arXiv:1905.11946, table 1 (the stages); the Lite variants and their five sizes are from the
authors' TPU repository. Convolutions are followed by batch normalisation (epsilon 1e-3); padding is SAME. Made of Keras'
own layers alone, so that a saved model opens where this package is not installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from keras_cnn.backbones.backbone import Backbone, Stage
from keras_cnn.preprocessing import Preprocessing

EMBEDDED = Path(__file__).parent / "weights" / "efficientnet_lite0.npz"
SIZE = 224


class Group(NamedTuple):
    """Inverted residual blocks in a row; the first one has the stride and changes the channels."""

    repeats: int
    kernel_size: int
    strides: int
    expansion: int
    channels: int


# Each inner tuple is a stage: it ends where the next group halves the map.
STAGES = (
    (Group(1, 3, 1, 1, 16),),
    (Group(2, 3, 2, 6, 24),),
    (Group(2, 5, 2, 6, 40),),
    (Group(3, 3, 2, 6, 80), Group(3, 5, 1, 6, 112)),
    (Group(4, 5, 2, 6, 192), Group(1, 3, 1, 6, 320)),
)


def backbone(input_shape=None, weights="default") -> Backbone:
    """EfficientNet-Lite0 without its classifier: five stages with strides 2 to 32, 3.4 million parameters.

    Args:
        input_shape: `(height, width, 3)`, each side any size or None; None for 224 x 224.
        weights: "default" (ImageNet-1k, embedded), the path of an `.npz` file of the same layout, or None (random).
    """
    shape = input_shape or (SIZE, SIZE, 3)
    inputs = keras.Input(shape, name="image")
    model = keras.Model(inputs, _body(inputs), name="efficientnet_lite0")
    load_weights(model, weights)
    channels = [groups[-1].channels for groups in STAGES[:-1]] + [1280]
    stages = tuple(Stage(f"stage{i}", 2**i, c) for i, c in enumerate(channels, 1))
    size = tuple(side or SIZE for side in shape[:2])
    source = "random weights" if weights is None else "ImageNet-1k, © 2020 ML Illustrated, Apache-2.0"
    return Backbone(model, stages, Preprocessing(size), source if weights in (None, "default") else str(weights))


def imagenet_classifier() -> keras.Model:
    """The whole published network: images `(batch, 224, 224, 3)` 0..255 -> 1,000 logits in Keras' ImageNet order."""
    inputs = keras.Input((SIZE, SIZE, 3), name="image")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(_body(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1000, name="logits")(x), name="efficientnet_lite0_imagenet")
    load_weights(model, "default")
    return model


def load_weights(model: keras.Model, weights) -> None:
    """Fill a model's layers from an `.npz` file with entries `layer/weight`; entries without a layer are passed over."""
    if weights is None:
        return
    path = EMBEDDED if weights == "default" else Path(weights)
    if not path.is_file():
        raise FileNotFoundError(f"efficientnet_lite0: `weights` must be an existing .npz file. Received: {path}.")
    with np.load(path, allow_pickle=False) as arrays:
        for layer in model.layers:
            for variable in layer.weights:
                variable.assign(arrays[f"{layer.name}/{variable.name}"].astype("float32"))


def _body(inputs):
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="normalize")(inputs)
    x = _conv_bn(keras.layers.Conv2D(32, 3, 2, padding="same", use_bias=False, name="stem_conv"), x, "stem")
    index = 0
    for number, groups in enumerate(STAGES, 1):
        for group in groups:
            for repeat in range(group.repeats):
                index += 1
                x = _inverted_residual(x, group, group.strides if repeat == 0 else 1, f"block{index}")
        if number == len(STAGES):
            x = _conv_bn(keras.layers.Conv2D(1280, 1, use_bias=False, name="top_conv"), x, "top")
        x = keras.layers.Identity(name=f"stage{number}")(x)
    return x


def _inverted_residual(x, group, strides, name):
    shortcut, width = x, x.shape[-1]
    if group.expansion > 1:
        conv = keras.layers.Conv2D(width * group.expansion, 1, use_bias=False, name=f"{name}_expand_conv")
        x = _conv_bn(conv, x, f"{name}_expand")
    conv = keras.layers.DepthwiseConv2D(
        group.kernel_size, strides, padding="same", use_bias=False, name=f"{name}_depthwise_conv"
    )
    x = _conv_bn(conv, x, f"{name}_depthwise")
    conv = keras.layers.Conv2D(group.channels, 1, use_bias=False, name=f"{name}_project_conv")
    x = _conv_bn(conv, x, f"{name}_project", activation=False)
    if strides == 1 and width == group.channels:
        x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def _conv_bn(conv, x, name, activation=True):
    x = keras.layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(conv(x))
    return keras.layers.ReLU(6, name=f"{name}_relu6")(x) if activation else x
