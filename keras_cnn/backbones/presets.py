"""Presets of keras-hub: built in, in a folder, on Kaggle or Hugging Face (timm among them)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keras_cnn import arguments
from keras_cnn.backbones.backbone import Backbone, Source, weight_file
from keras_cnn.backbones.ranges import affine, to_range
from keras_cnn.backbones.staging import with_stage_markers
from keras_cnn.downloads import file_checksum
from keras_cnn.preprocessing import Preprocessing

DEFAULT_SIZE = 224  # where the preset has none


def load(
    preset: str,
    size: tuple[int | None, int | None] | None = None,
    weights: str | os.PathLike | None = "default",
    *,
    input_range: Sequence[float] | None = None,
    **options: Any,
) -> Backbone:
    """A backbone of keras-hub with the settings of its preprocessor: size, per-channel scaling and the mode of resizing.

    Images are resized as everywhere in this package (bilinear with anti-aliasing), whatever the preset's interpolation.

    Args:
        preset: A built-in name, a folder, "kaggle://...", "hf://timm/..." or another form that keras-hub takes.
        size: Height and width, each a number or None where the network allows it. None: the size in the preset.
        weights: "default" (pretrained), the path of a weight file, or None (random).
        input_range: The values that the network takes for black and white, for a preset without a preprocessor.
        options: Other arguments of `keras_hub.models.Backbone.from_preset`.
    """
    hub, handle = _keras_hub(preset), f"keras_hub:{preset}"
    file = weight_file(weights)
    with _short_errors(handle):
        network = hub.models.Backbone.from_preset(preset, load_weights=weights == "default", **options)
        converter = _converter(hub, preset)
        if file:
            network.load_weights(file)
    normalize = _normalization(handle, converter, input_range, weights)
    default = getattr(converter, "image_size", None) or (DEFAULT_SIZE, DEFAULT_SIZE)
    height, width = size or default
    model, stages = with_stage_markers(network, (height, width), normalize)
    preprocessing = Preprocessing((height or default[0], width or default[1]), **_resizing(converter))
    return Backbone(model, stages, preprocessing, _source(handle, preset, weights, file))


def _keras_hub(preset):
    try:
        import keras_hub
    except ImportError:
        raise ValueError(
            f"load_backbone: presets are loaded by keras-hub, which is not installed. Received: 'keras_hub:{preset}'. "
            "pip install 'keras-cnn[hub]'."
        ) from None
    return keras_hub


@contextmanager
def _short_errors(handle):
    """A context in which each error of keras-hub becomes a ValueError of one or two sentences."""
    try:
        yield
    except Exception as error:  # keras-hub and four download libraries raise their own classes
        raise ValueError(
            f"load_backbone: keras-hub could not load {handle!r}: {arguments.short_message(error)} Check the name and the "
            "connection, or name the folder of a preset."
        ) from None


def _converter(hub, preset):
    """The preset's `ImageConverter`, None if it has none."""
    try:
        return hub.layers.ImageConverter.from_preset(preset)
    except FileNotFoundError:  # of the converter's settings; those of the network exist
        return None


def _normalization(handle, converter, input_range, weights):
    if input_range is None and converter is None and weights is not None:
        raise ValueError(
            f"load_backbone: {handle} does not say what range of values its images have. Give it by input_range=(0, 1), "
            "(-1, 1) or (0, 255), or save the preset with its preprocessor."
        )
    if converter is None or input_range is not None:
        return to_range(input_range or (0, 255))
    return affine(_plain(converter.scale, 1.0), _plain(converter.offset, 0.0))


def _plain(value, default):
    """A number or a list of numbers, which a saved model can hold."""
    return default if value is None else np.asarray(value, "float64").tolist()


def _resizing(converter):
    if converter is None:
        return {}
    if converter.pad_to_aspect_ratio:
        return {"resize": "fit", "background": 0}
    return {"resize": "cover" if converter.crop_to_aspect_ratio else "squash"}


def _source(handle, preset, weights, file):
    if weights is None:
        return Source(handle, "random weights")
    path = file or Path(preset).expanduser() / "model.weights.h5"
    origin = str(file) if file else "weights of the preset"
    return Source(handle, origin, file_checksum(path) if path.is_file() else None)
