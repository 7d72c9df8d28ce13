"""The record that all pretrained networks come as, whatever their origin."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from keras_cnn.preprocessing import Preprocessing


@dataclass(frozen=True)
class Stage:
    """A part of a network whose feature maps have one stride.

    Attributes:
        name: Name of the stage; also that of a layer without effect which ends it, so that `freeze`, `cut` and
            `model.get_layer` find it.
        stride: Input pixels between neighbouring positions of the feature map.
        channels: Channels of its last feature map.
    """

    name: str
    stride: int
    channels: int


@dataclass(frozen=True)
class Backbone:
    """A network without a head.

    Attributes:
        model: `keras.Model`, images `(batch, height, width, 3)` RGB 0..255 -> the last feature map. Normalisation is inside.
        stages: From shallow to deep.
        preprocessing: How image files become the input.
        source: Where the weights came from, a sentence for reports.
    """

    model: keras.Model
    stages: tuple[Stage, ...]
    preprocessing: Preprocessing
    source: str

    def features(self) -> dict:
        """The last feature map of each stage, by stage name: the input of heads that need a pyramid."""
        return {stage.name: self.model.get_layer(stage.name).output for stage in self.stages}
