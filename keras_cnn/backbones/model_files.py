"""Your own network, from a `.keras` file, without its head."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_cnn import arguments
from keras_cnn.backbones.backbone import Backbone, Source, weight_file
from keras_cnn.backbones.ranges import to_range
from keras_cnn.backbones.staging import with_stage_markers
from keras_cnn.downloads import file_checksum
from keras_cnn.keras_internals import sublayers
from keras_cnn.preprocessing import Preprocessing
from keras_cnn.surgery import unnest
from keras_cnn.surgery.graph import require_graph

DEFAULT_SIZE = 224  # where the model takes any size
HDF5 = b"\x89HDF\r\n\x1a\n"


def load(
    path: str,
    size: tuple[int | None, int | None] | None = None,
    weights: str | os.PathLike | None = "default",
    *,
    input_range: Sequence[float] = (0, 255),
    safe_mode: bool = True,
) -> Backbone:
    """The network in a file up to its last feature map, which its head pools or flattens.

    Args:
        path: A `.keras` file with a functional or Sequential model, models nested in it included.
        size: Height and width, each a number or None. None: the input size of the model.
        weights: "default" (those in the file), the path of a weight file, or None (random).
        input_range: The values that the model takes for black and white. The default is right for a model with its
            normalisation inside.
        safe_mode: As in `keras.models.load_model`: False loads a file with code in it, such as a `HubLayer`.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(arguments.message("load_backbone", "handle", "an existing .keras file", path))
    other = weight_file(weights)
    model = _load_model(file, weights, other, safe_mode)
    require_graph("load_backbone", model)
    _check_data_format(model, path)
    model, stages = with_stage_markers(unnest(model), size, to_range(input_range))
    height, width = model.input_shape[1:3]
    preprocessing = Preprocessing((height or DEFAULT_SIZE, width or DEFAULT_SIZE))
    return Backbone(model, stages, preprocessing, _source(path, weights, other or file))


def _source(path, weights, file):
    if weights is None:
        return Source(path, "random weights")
    return Source(path, "its own weights" if weights == "default" else str(file), file_checksum(file))


def _load_model(file, weights, other, safe_mode):
    _check_archive(file)
    try:
        model = keras.models.load_model(file, compile=False, safe_mode=safe_mode)
        if weights is None:
            return keras.models.clone_model(model)
        if other:
            model.load_weights(other)
        return model
    except Exception as error:  # a file may hold anything, and Keras raises anything
        if safe_mode and "safe_mode" in str(error):
            raise ValueError(_holds_code(file)) from None
        reason = str(error).rsplit("Exception encountered: ", 1)[
            -1
        ]  # the text before it quotes the whole configuration
        raise ValueError(
            f"load_backbone: {file} with weights={weights!r} fails: {arguments.short_message(ValueError(reason))}"
        ) from None


def _holds_code(file):
    return (
        f"load_backbone: {file} must contain only layers. Received: a file with code in it, such as a Lambda layer, which runs "
        "when it is loaded. Replace it by a layer of Keras, such as Rescaling, and save the model again; or, if you trust the "
        "file, load it in Python with safe_mode=False."
    )


def _check_archive(file):
    """Raise a clear error for an incomplete archive, for which Keras reports a missing file."""
    if zipfile.is_zipfile(file):
        return
    with open(file, "rb") as content:
        start = content.read(len(HDF5))
    kind = (
        "an empty file"
        if not start
        else "a file whose end is missing; copy or download it again"
        if start.startswith(b"PK")
        else "an HDF5 file; load it under a name that ends in .h5, and save it as .keras"
        if start == HDF5
        else "a file of another format"
    )
    raise ValueError(f"load_backbone: {file} must be a model that Keras has saved as .keras. Received: {kind}.")


def _check_data_format(model, path):
    for layer in sublayers(model, include_self=False):
        if getattr(layer, "data_format", None) == "channels_first":
            raise ValueError(
                f"load_backbone: networks take images (batch, height, width, channels). Received: {path}, whose layer "
                f'{layer.name!r} is channels_first. Build it with data_format="channels_last"; the weights stay as they are.'
            )
