"""What a job can do with its time: presets, from quick to thorough, and what to try within a time limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_cnn import Backbone
from pipelines.settings import BEST, FAST, PRESETS

MIN_IMAGES_WHOLE_NETWORK = 1_000  # training images; with fewer it overfits
FAST_EPOCHS = 4


def preset_settings(preset: str, backbone: Backbone, training_images: int) -> dict[str, Any]:
    """What a preset sets for a network and so many training images; the defaults set the rest.

    - `fast`: the head; from 1,000 images on the last two stages, on cached features.
    - `default`: nothing.
    - `best`: the last two stages; from 1,000 images on the whole network for twice as many epochs, with more augmentation.
    """
    many = training_images >= MIN_IMAGES_WHOLE_NETWORK
    late = backbone.stages[-2].name if len(backbone.stages) > 2 else None
    if preset == FAST:
        return {"train": late, "epochs": FAST_EPOCHS} if many and late else {"train": "head"}
    if preset == BEST and many:
        return {"augmentation": "medium"}
    return {"train": late} if preset == BEST and late else {}


def within_a_time_limit(overrides: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a job with a time limit may choose from, the best first: presets up to the one that is given, the head alone."""
    most = PRESETS.index(overrides.get("preset") or BEST)
    found: list[dict[str, Any]] = [{"preset": preset} for preset in PRESETS[most::-1]]
    if overrides.get("train") is None and overrides.get("epochs") is None:
        found.append({"preset": FAST, "train": "head"})
    return found
