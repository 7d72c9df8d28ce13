"""The record of a pretrained network, the same for every origin."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_cnn import arguments
from keras_cnn.preprocessing import Preprocessing
from keras_cnn.surgery import output_of


@dataclass(frozen=True)
class Stage:
    """A part of a network whose feature maps have one stride.

    Attributes:
        name: Name of the stage, and of the `Identity` layer that ends it, so that `freeze`, `cut` and `model.get_layer`
            find it. "stage4" has stride 2^4 = 16, in every network.
        stride: Input pixels between neighbouring positions of the feature map. None: it has one position for the whole
            image.
        channels: Channels of its last feature map.
    """

    name: str
    stride: int | None
    channels: int


@dataclass(frozen=True)
class Source:
    """Where weights come from; `str` makes a sentence of it, for reports.

    Attributes:
        handle: The handle for `load_backbone`, such as "keras:ResNet50".
        weights: "random weights", the data set and the copyright holder, or a path.
        sha256: Checksum of the weight file, in hexadecimal digits, if it is a single file.
        licence: The licence if it is known, such as "Apache-2.0".
    """

    handle: str
    weights: str
    sha256: str | None = None
    licence: str | None = None

    def __str__(self) -> str:
        licence = f", {self.licence}" if self.licence else ""
        checksum = f" (sha256 {self.sha256})" if self.sha256 else ""
        return f"{self.handle}, {self.weights}{licence}{checksum}"


def weight_file(weights: Any) -> Path | None:
    """The existing file that the argument `weights` names; None for "default" and for None."""
    if weights is None or weights == "default":
        return None
    expected = '"default", an existing weight file, or None'
    if not isinstance(weights, str | os.PathLike):
        raise TypeError(arguments.message("load_backbone", "weights", expected, weights))
    if not Path(weights).expanduser().is_file():
        raise FileNotFoundError(arguments.message("load_backbone", "weights", expected, os.fspath(weights)))
    return Path(weights).expanduser()


@dataclass(frozen=True)
class Backbone:
    """A network without a head.

    Attributes:
        model: `keras.Model`, images `(batch, height, width, channels)` RGB 0..255 -> the last feature map. Normalisation
            is inside.
        stages: From shallow to deep.
        preprocessing: How image files become the input.
        source: Where the weights come from.
    """

    model: keras.Model
    stages: tuple[Stage, ...]
    preprocessing: Preprocessing
    source: Source

    def features(self) -> dict[str, keras.KerasTensor]:
        """The last feature map of each stage, by stage name: the input of heads on a feature pyramid."""
        return {stage.name: output_of(self.model, stage.name) for stage in self.stages}
