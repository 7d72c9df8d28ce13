"""TF Hub and Kaggle: a SavedModel of image features as a backbone of one stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from keras_cnn import arguments
from keras_cnn.backbones.backbone import Backbone, Source, Stage
from keras_cnn.backbones.ranges import to_range
from keras_cnn.downloads import file_checksum
from keras_cnn.preprocessing import Preprocessing
from keras_cnn.saved_model_handles import saved_model_directory

DEFAULT_SIZE = 224
VALUES = "variables/variables.data-00000-of-00001"


def load(
    handle: str,
    size: tuple[int | None, int | None] | None = None,
    weights: str | None = "default",
    *,
    input_range: Sequence[float] = (0, 1),
    checksum: str | None = None,
    trainable: bool = True,
    **options: Any,
) -> Backbone:
    """A SavedModel that computes feature maps of images; or feature vectors, which become maps of one position.

    Args:
        handle: As in `keras_cnn.saved_model_handles.saved_model_directory`.
        size: Height and width, each a number or None where the module allows it. None: 224 x 224.
        weights: "default": a SavedModel contains its weights.
        input_range: The values that the module takes for black and white: 0 and 1 by the convention of TF Hub.
        checksum: SHA-256 of the file at an address.
        trainable: Whether training changes it; modules for inference only stay as they are.
        options: Other arguments of `keras_cnn.layers.HubLayer`.
    """
    from keras_cnn.layers.hub import HubLayer  # needs TensorFlow

    if weights != "default":
        raise ValueError(
            arguments.message("load_backbone", "weights", '"default", since a SavedModel comes with its own', weights)
        )
    directory = saved_model_directory(handle, checksum)
    layer = HubLayer(str(directory), name="module", **options)
    layer.trainable = trainable
    height, width = size or (DEFAULT_SIZE, DEFAULT_SIZE)
    image = keras.Input((height, width, 3), name="image")
    y = layer(to_range(input_range)(image))
    if not isinstance(y, keras.KerasTensor) or len(y.shape) not in (2, 4):
        raise ValueError(
            f"load_backbone: the module must give one tensor, feature maps or feature vectors. Received: {y}. Name one of "
            "several by output_key=..., or another signature by signature=..."
        )
    stride = None if len(y.shape) == 2 else _stride(layer, height or DEFAULT_SIZE, width or DEFAULT_SIZE)
    name = f"stage{stride.bit_length() - 1}" if stride else "stage1"
    y = keras.layers.Reshape((1, 1, y.shape[-1]))(y) if len(y.shape) == 2 else y
    model = keras.Model(image, keras.layers.Identity(name=name)(y), name="hub_module")
    values = directory / VALUES
    source = Source(f"hub:{handle}", str(directory), file_checksum(values) if values.is_file() else None)
    stages = (Stage(name, stride, y.shape[-1]),)
    return Backbone(model, stages, Preprocessing((height or DEFAULT_SIZE, width or DEFAULT_SIZE)), source)


def _stride(layer, height, width):
    """The stride of the module's feature maps, as the nearest power of 2: unpadded convolutions lose some border positions.

    None if the module does not declare their size.
    """
    rows = layer.compute_output_spec(keras.KerasTensor((None, height, width, 3))).shape[1]
    return rows and 2 ** round(math.log2(height / rows))
