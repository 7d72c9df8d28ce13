"""From images 0..255 to the range that a network was trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_cnn import arguments


def affine(
    scale: float | list[float], offset: float | list[float], bgr: bool = False
) -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    """A function of a tensor `(batch, height, width, channels)`: scale · x + offset, each a number or one number per channel.

    It makes a layer "normalize", or none if scale and offset change nothing. `bgr`: the channels are first reversed from RGB
    to BGR.
    """

    def normalize(x):
        x = keras.ops.flip(x, axis=-1) if bgr else x
        unchanged = _all_equal(scale, 1.0) and _all_equal(offset, 0.0)
        return x if unchanged else keras.layers.Rescaling(scale, offset, name="normalize")(x)

    return normalize


def to_range(input_range: Sequence[float]) -> Callable[[Any], Any]:
    """As `affine`, to the values that a network takes for black and for white: (0, 1), (-1, 1) or (0, 255)."""
    try:
        black, white = map(float, input_range)
        valid = math.isfinite(black) and math.isfinite(white) and black != white
    except (TypeError, ValueError):
        valid = False
    if not valid:
        expected = "two different finite numbers, for black and for white, such as (0, 1)"
        raise ValueError(arguments.message("load_backbone", "input_range", expected, input_range))
    return affine((white - black) / 255, black)


def _all_equal(values, value):
    return all(one == value for one in (values if isinstance(values, (list, tuple)) else [values]))
