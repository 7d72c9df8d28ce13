"""The record that all pretrained networks come as, whatever their origin."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import keras

from keras_cnn import arguments
from keras_cnn.preprocessing import Preprocessing
from keras_cnn.surgery import output_of


@dataclass(frozen=True)
class Stage:
    """A part of a network whose feature maps have one stride.

    Attributes:
        name: Name of the stage; also that of a layer without effect which ends it, so that `freeze`, `cut` and
            `model.get_layer` find it. "stage4" has stride 2^4 = 16, in every network.
        stride: Input pixels between neighbouring positions of the feature map. None: it has one position, for all of the
            image.
        channels: Channels of its last feature map.
    """

    name: str
    stride: int | None
    channels: int


@dataclass(frozen=True)
class Source:
    """Where weights came from; `str` makes a sentence of it, for reports.

    Attributes:
        handle: That of `load_backbone`, such as "keras:ResNet50".
        weights: What they are: "random weights", their data set and holder, or a path.
        sha256: Of the file they were read from, in hexadecimal digits, if it was one file.
        licence: If it is known, such as "Apache-2.0".
    """

    handle: str
    weights: str
    sha256: str | None = None
    licence: str | None = None

    def __str__(self):
        licence = f", {self.licence}" if self.licence else ""
        checksum = f" (sha256 {self.sha256})" if self.sha256 else ""
        return f"{self.handle}, {self.weights}{licence}{checksum}"


def weight_file(weights) -> Path | None:
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
        source: Where the weights came from.
    """

    model: keras.Model
    stages: tuple[Stage, ...]
    preprocessing: Preprocessing
    source: Source

    def features(self) -> dict:
        """The last feature map of each stage, by stage name: the input of heads that need a pyramid."""
        return {stage.name: output_of(self.model, stage.name) for stage in self.stages}
