"""A network of one's own, from a `.keras` file, without its head."""

from __future__ import annotations

import zipfile
from pathlib import Path

import keras

from keras_cnn import arguments, fetching
from keras_cnn.backbones.backbone import Backbone, Source, weight_file
from keras_cnn.backbones.ranges import to_range
from keras_cnn.backbones.staging import staged
from keras_cnn.preprocessing import Preprocessing
from keras_cnn.surgery import unnest
from keras_cnn.surgery.graph import require_graph

SIZE = 224  # where the model takes any
HDF5 = b"\x89HDF\r\n\x1a\n"


def load(path: str, size=None, weights="default", *, input_range=(0, 255), safe_mode=True) -> Backbone:
    """The network in a file up to its last feature map, the one that is pooled or flattened.

    Args:
        path: A `.keras` file with a functional or Sequential model, models nested in it included.
        size: Height and width, each a number or None. None: what the model takes.
        weights: "default" (those in the file), the path of a weight file, or None (random).
        input_range: The values that the model takes for black and white. The default is right for a model with its
            normalisation inside.
        safe_mode: As in `keras.models.load_model`: False opens a file with code in it, such as a `HubLayer`.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(arguments.message("load_backbone", "handle", "an existing .keras file", path))
    other = weight_file(weights)
    model = _opened(file, weights, other, safe_mode)
    require_graph("load_backbone", model)
    _check_order_of_axes(model, path)
    model, stages = staged(unnest(model), size, to_range(input_range))
    preprocessing = Preprocessing(tuple(side or SIZE for side in model.input_shape[1:3]))
    return Backbone(model, stages, preprocessing, _source(path, weights, other or file))


def _source(path, weights, read):
    if weights is None:
        return Source(path, "random weights")
    return Source(path, "its own weights" if weights == "default" else str(read), fetching.digest(read))


def _opened(file, weights, other, safe_mode):
    _check_archive(file)
    try:
        model = keras.models.load_model(file, compile=False, safe_mode=safe_mode)
        if weights is None:
            return keras.models.clone_model(model)
        if other:
            model.load_weights(other)
        return model
    except Exception as error:  # a file may hold anything, and Keras raises what comes
        if safe_mode and "safe_mode" in str(error):
            raise ValueError(_holds_code(file)) from None
        reason = str(error).rsplit("Exception encountered: ", 1)[-1]  # what is before it quotes the whole configuration
        raise ValueError(
            f"load_backbone: {file} with weights={weights!r} fails: {fetching.in_short(ValueError(reason))}"
        ) from None


def _holds_code(file):
    return (
        f"load_backbone: {file} must be of layers alone. Received: a file with code in it, such as a Lambda layer, which runs "
        "when it is loaded. Put a layer of Keras in its place, such as Rescaling, and save it again; or, if you trust it, load "
        "it in Python with safe_mode=False."
    )


def _check_archive(file):
    """Keras says of a file that is no whole archive that there is none."""
    if zipfile.is_zipfile(file):
        return
    with open(file, "rb") as opened:
        start = opened.read(len(HDF5))
    kind = (
        "an empty file"
        if not start
        else "a file whose end is missing; copy or download it again"
        if start.startswith(b"PK")
        else "an HDF5 file; load it under a name that ends in .h5, and save it as .keras"
        if start == HDF5
        else "a file of another kind"
    )
    raise ValueError(f"load_backbone: {file} must be a model that Keras has saved as .keras. Received: {kind}.")


def _check_order_of_axes(model, path):
    for layer in model._flatten_layers(include_self=False):
        if getattr(layer, "data_format", None) == "channels_first":
            raise ValueError(
                f"load_backbone: networks take images (batch, height, width, channels). Received: {path}, whose layer "
                f'{layer.name!r} is channels_first. Build it with data_format="channels_last"; the weights stay as they are.'
            )
