"""From a handle to a backbone."""

from __future__ import annotations

import difflib
import inspect
import numbers
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras

from keras_cnn import arguments
from keras_cnn.backbones import applications, efficientnet_lite, model_files, presets, saved_models
from keras_cnn.backbones.backbone import Backbone
from keras_cnn.backbones.staging import rebuild
from keras_cnn.preprocessing import Preprocessing
from keras_cnn.surgery import adapt_input_channels

ORIGINS = {"keras": applications.load, "keras_hub": presets.load, "hub": saved_models.load}


def load_backbone(
    handle: str | os.PathLike,
    input_shape: Sequence[int | None] | None = None,
    weights: str | os.PathLike | None = "default",
    preprocessing: Preprocessing | None = None,
    **options: Any,
) -> Backbone:
    """A pretrained network without its head: images 0..255 in, feature maps out, in stages.

    Args:
        handle: One of
            "efficientnet_lite0", whose ImageNet weights are part of this package; "efficientnet_lite1" to "..lite4";
            "keras:ResNet50" and the other networks of `keras.applications`, in any case;
            "keras_hub:PRESET", a preset of keras-hub: a name, a folder, "kaggle://..." or "hf://timm/...";
            "hub:MODULE", a SavedModel of TF Hub: a folder, a `.tar.gz` file, an address or a handle of Kaggle;
            "my_model.keras", the path of a functional or Sequential model, which is loaded without its head.
        input_shape: `(height, width, channels)` of one image; height and width may be None where the network takes any
            size, channels None for the number in the network. None: the shape that the network was trained on. For another
            number of channels the first kernels are summed or repeated (`keras_cnn.surgery.adapt_input_channels`).
        weights: "default" (pretrained), the path of a weight file, or None (random). "hub:" takes only "default".
        preprocessing: How image files become the input, of the size of `input_shape`. None: that of the network's origin, or
            else `Preprocessing` of that size.
        options: Further options of the origin: `input_range` ("keras_hub:", "hub:", .keras files), `checksum` and those
            of `HubLayer` ("hub:"), `safe_mode` (.keras files), `alpha` and the like ("keras:").

    Returns:
        The model, its stages, its preprocessing and the source of its weights.

    Raises:
        ValueError: If the handle is unknown, the weights do not fit, or the network cannot be built with these arguments.
        FileNotFoundError: If a file does not exist or cannot be downloaded.
        TypeError: If an option is unknown.

    Example:
        >>> [(stage.name, stage.stride, stage.channels) for stage in load_backbone("efficientnet_lite0").stages][-1]
        ('stage5', 32, 1280)
    """
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "load_backbone: networks take images (batch, height, width, channels). Received: image_data_format "
            "'channels_first'. Call keras.config.set_image_data_format(\"channels_last\") first."
        )
    handle = os.fspath(handle)
    size, channels = _checked(input_shape)
    load, name = _origin(handle)
    _check_options(handle, load, options)
    backbone = load(name, size, weights, **options)
    if channels is not None:
        backbone = with_channels(backbone, channels)
    if preprocessing is not None:
        backbone = replace(backbone, preprocessing=_checked_preprocessing(preprocessing, backbone.model))
    return backbone


def with_channels(backbone: Backbone, channels: int) -> Backbone:
    """The backbone for images with `channels` channels, by `keras_cnn.adapt_input_channels`; itself if it has so many."""
    if backbone.model.input_shape[-1] == channels:
        return backbone
    model = adapt_input_channels(backbone.model, channels)
    return replace(backbone, model=rebuild(model, model.input_shape[1:]))


def _origin(handle):
    """The function that loads a handle, and the name to load."""
    origin, colon, name = handle.partition(":")
    if colon and origin in ORIGINS:
        return ORIGINS[origin], name
    if handle in efficientnet_lite.VARIANTS:
        return efficientnet_lite.load, handle
    if handle.endswith(".keras"):
        return model_files.load, handle
    known = {one: one for one in efficientnet_lite.VARIANTS}
    known |= {one.lower(): f"keras:{one}" for one in applications.names()}
    similarity = {one: difflib.SequenceMatcher(None, (name or origin).lower(), one).ratio() for one in known}
    nearest = max(known, key=similarity.__getitem__)  # the first of equals: the embedded network
    kinds = "'efficientnet_lite0' to '..4', 'keras:NAME', 'keras_hub:PRESET', 'hub:MODULE' or 'PATH.keras'"
    remedy = f"Did you mean {known[nearest]!r}?" if similarity[nearest] >= 0.7 else ""
    raise ValueError(arguments.message("load_backbone", "handle", kinds, handle, remedy))


def _checked(input_shape):
    """Height and width, and channels; None for each that is not given."""
    if input_shape is None:
        return None, None
    shape = tuple(input_shape) if isinstance(input_shape, (tuple, list)) else ()
    filled = [1 if size is None else size for size in shape]
    whole = [isinstance(side, numbers.Integral) and not isinstance(side, bool) and side > 0 for side in filled]
    if len(shape) != 3 or not all(whole):
        expected = "(height, width, channels) of one image, positive integers or None"
        raise ValueError(arguments.message("load_backbone", "input_shape", expected, input_shape))
    return shape[:2], shape[2]


def _check_options(handle, load, options):
    parameters = inspect.signature(load).parameters.values()
    known = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
    unknown = [name for name in options if name not in known]
    if unknown and not any(one.kind is one.VAR_KEYWORD for one in parameters):
        takes = ", ".join(known) or "no other arguments"
        raise TypeError(f"load_backbone: {handle!r} takes {takes}. Received: {', '.join(unknown)}.")


def _checked_preprocessing(preprocessing, model):
    if not isinstance(preprocessing, Preprocessing):
        raise TypeError(arguments.message("load_backbone", "preprocessing", "a keras_cnn.Preprocessing", preprocessing))
    sides = model.input_shape[1:3]
    if any(side not in (None, given) for side, given in zip(sides, preprocessing.size, strict=True)):
        expected = f"of the network's size, {sides[0]} x {sides[1]}"
        remedy = "Give the other size as `input_shape` too."
        raise ValueError(arguments.message("load_backbone", "preprocessing", expected, preprocessing, remedy))
    return preprocessing
