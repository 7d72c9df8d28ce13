"""What a job can do with its time: presets, from quick to thorough, and what to try within a time limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_cnn import Backbone
from pipelines.settings import BEST, FAST, PRESETS

MIN_IMAGES_WHOLE_NETWORK = 1_000  # training images; with fewer it overfits
FAST_EPOCHS = 4


def preset_settings(preset: str, default: str, backbone: Backbone) -> dict[str, Any]:
    """What a preset trains, instead of the default and for how many epochs; nothing where it is the default.

    Where the default is the whole network, `fast` trains the last two stages on cached features, and `best` the whole network.
    Where it is the last stage, `fast` trains the head, and `best` the last two stages.

    Args:
        preset: One of `pipelines.settings.PRESETS`.
        default: What is trained by default, as in `Settings.train`.
        backbone: The network.
    """
    late = backbone.stages[-2].name if len(backbone.stages) > 2 else None
    if preset == FAST:
        return {"train": late, "epochs": FAST_EPOCHS} if default == "all" and late else {"train": "head"}
    if preset == BEST and default == "last" and late:
        return {"train": late}
    return {}


def within_a_time_limit(overrides: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a job with a time limit may choose from, the best first: presets up to the one that is given, the head alone."""
    most = PRESETS.index(overrides.get("preset") or BEST)
    found: list[dict[str, Any]] = [{"preset": preset} for preset in PRESETS[most::-1]]
    if overrides.get("train") is None and overrides.get("epochs") is None:
        found.append({"preset": FAST, "train": "head"})
    return found
