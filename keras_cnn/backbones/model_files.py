"""A network of one's own, from a `.keras` file, without its head."""

from __future__ import annotations

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
    model, stages = staged(unnest(model), size, to_range(input_range))
    preprocessing = Preprocessing(tuple(side or SIZE for side in model.input_shape[1:3]))
    return Backbone(model, stages, preprocessing, _source(path, weights, other or file))


def _source(path, weights, read):
    if weights is None:
        return Source(path, "random weights")
    return Source(path, "its own weights" if weights == "default" else str(read), fetching.digest(read))


def _opened(file, weights, other, safe_mode):
    try:
        model = keras.models.load_model(file, compile=False, safe_mode=safe_mode)
        if weights is None:
            return keras.models.clone_model(model)
        if other:
            model.load_weights(other)
        return model
    except Exception as error:  # a file may hold anything, and Keras raises what comes
        raise ValueError(f"load_backbone: {file} with weights={weights!r} fails: {fetching.in_short(error)}") from None
