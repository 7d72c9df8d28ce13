"""From images 0..255 to the range that a network was trained on."""

from __future__ import annotations

import math

import keras

from keras_cnn import arguments


def affine(scale, offset, turned: bool = False):
    """A function of a tensor `(batch, height, width, channels)`: scale · x + offset, each a number or one a channel.

    It makes a layer "normalize", or nothing where there is nothing to do. `turned`: the channels are first put into the
    opposite order, RGB into BGR.
    """

    def normalize(x):
        x = keras.ops.flip(x, axis=-1) if turned else x
        unchanged = _all(scale, 1.0) and _all(offset, 0.0)
        return x if unchanged else keras.layers.Rescaling(scale, offset, name="normalize")(x)

    return normalize


def to_range(input_range):
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


def _all(values, value):
    return all(one == value for one in (values if isinstance(values, (list, tuple)) else [values]))
