"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation and with ReLU6, designed for integer hardware.

Tan & Le, 2019, EfficientNet, arXiv:1905.11946: table 1 (the stages) and section 3.3 (their scaling by width and depth); the
five Lite variants, which scale neither the first nor the last convolution, are from the authors' TPU repository.
Convolutions are followed by batch normalisation (epsilon 1e-3); padding is SAME. It consists of Keras' own layers, so that
a saved model opens where this package is not installed.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import keras
import numpy as np

from keras_cnn.backbones.backbone import Backbone, Source, Stage, weight_file
from keras_cnn.downloads import file_checksum
from keras_cnn.preprocessing import Preprocessing

EMBEDDED = Path(__file__).parent / "weights" / "efficientnet_lite0.npz"
SIZE = 224  # of the embedded network


class Variant(NamedTuple):
    """Factors for the channels and the repeats of the blocks, and the side of the training images."""

    width: float
    depth: float
    size: int


class Group(NamedTuple):
    """Consecutive inverted residual blocks; the first one has the stride and changes the channels."""

    repeats: int
    kernel_size: int
    strides: int
    expansion: int
    channels: int


VARIANTS = {
    "efficientnet_lite0": Variant(1.0, 1.0, SIZE),
    "efficientnet_lite1": Variant(1.0, 1.1, 240),
    "efficientnet_lite2": Variant(1.1, 1.2, 260),
    "efficientnet_lite3": Variant(1.2, 1.4, 280),
    "efficientnet_lite4": Variant(1.4, 1.8, 300),
}
# Each inner tuple is a stage, which ends before the next group halves the map.
STAGES = (
    (Group(1, 3, 1, 1, 16),),
    (Group(2, 3, 2, 6, 24),),
    (Group(2, 5, 2, 6, 40),),
    (Group(3, 3, 2, 6, 80), Group(3, 5, 1, 6, 112)),
    (Group(4, 5, 2, 6, 192), Group(1, 3, 1, 6, 320)),
)


def load(
    name: str,
    size: tuple[int | None, int | None] | None = None,
    weights: str | os.PathLike | None = "default",
) -> Backbone:
    """A network without its classifier: five stages with strides 2 to 32.

    Args:
        name: A key of `VARIANTS`.
        size: Height and width, each any number or None. None: the size of the variant.
        weights: "default" (ImageNet-1k, embedded, for the smallest variant only), the path of an `.npz` file, or None
            (random).
    """
    side = VARIANTS[name].size
    height, width = size or (side, side)
    path = _embedded(name) if weights == "default" else weight_file(weights)
    inputs = keras.Input((height, width, 3), name="image")
    model = keras.Model(inputs, _body(inputs, VARIANTS[name]), name=name)
    if path is not None:
        load_weights(model, path)
    ends = [f"stage{number}" for number in range(1, len(STAGES) + 1)]
    stages = tuple(Stage(end, 2**number, model.get_layer(end).output.shape[-1]) for number, end in enumerate(ends, 1))
    return Backbone(model, stages, Preprocessing((height or side, width or side)), _source(name, path))


def imagenet_classifier() -> keras.Model:
    """The whole published network: images `(batch, 224, 224, 3)` 0..255 -> 1,000 logits in Keras' ImageNet order."""
    return classifier("efficientnet_lite0", EMBEDDED)


def classifier(name: str, weights: Path | None) -> keras.Model:
    """A whole network, images 0..255 -> 1,000 logits, with the weights of an `.npz` file or random ones."""
    variant = VARIANTS[name]
    inputs = keras.Input((variant.size, variant.size, 3), name="image")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(_body(inputs, variant))
    model = keras.Model(inputs, keras.layers.Dense(1000, name="logits")(x), name=f"{name}_imagenet")
    if weights is not None:
        load_weights(model, weights)
    return model


def load_weights(model: keras.Model, path: Path) -> None:
    """Load the weights of a model from an `.npz` file with entries `layer/weight`; entries without a layer are ignored.

    Raises:
        ValueError: If the file has another format, or lacks an entry.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            for layer in model.layers:
                for variable in layer.weights:
                    variable.assign(arrays[f"{layer.name}/{variable.name}"].astype("float32"))
    except (KeyError, ValueError, OSError, EOFError, AttributeError, BadZipFile) as error:
        raise ValueError(
            f"load_backbone: `weights` must be an .npz file with an array layer/weight for each weight of {model.name}. "
            f"Received: {path}, where this fails: {error}"
        ) from None


def _source(name, path):
    if path is None:
        return Source(name, "random weights")
    sha256 = file_checksum(path)
    if path == EMBEDDED:
        return Source(name, "ImageNet-1k, © 2020 ML Illustrated", sha256, "Apache-2.0")
    return Source(name, str(path), sha256)


def _embedded(name):
    if name != "efficientnet_lite0":
        raise ValueError(
            f"load_backbone: the weights of {name} are not part of this package. Name an .npz file of them by `weights` "
            "(docs/backbones.md says how to make one), or pass weights=None for random ones."
        )
    return EMBEDDED


def _body(inputs, variant):
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="normalize")(inputs)
    x = _conv_bn(keras.layers.Conv2D(32, 3, 2, padding="same", use_bias=False, name="stem_conv"), x, "stem")
    unscaled = (STAGES[0][0], STAGES[-1][-1])  # the blocks at both ends are never repeated
    index = 0
    for number, groups in enumerate(STAGES, 1):
        for group in groups:
            repeats = group.repeats if group in unscaled else math.ceil(variant.depth * group.repeats)
            group = group._replace(channels=_scaled(group.channels, variant.width))
            for repeat in range(repeats):
                index += 1
                x = _inverted_residual(x, group, group.strides if repeat == 0 else 1, f"block{index}")
        if number == len(STAGES):
            x = _conv_bn(keras.layers.Conv2D(1280, 1, use_bias=False, name="top_conv"), x, "top")
        x = keras.layers.Identity(name=f"stage{number}")(x)
    return x


def _scaled(channels, width):
    """The nearest multiple of 8 that is at least nine tenths of the product."""
    scaled = max(8, int(channels * width + 4) // 8 * 8)
    return scaled if scaled >= 0.9 * channels * width else scaled + 8


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
