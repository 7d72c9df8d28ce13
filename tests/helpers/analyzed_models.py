"""Small models that several tests of the analysis use, and large ones that take a second to build."""

from functools import cache

import keras
from keras import layers

from keras_cnn.analysis import analyze


@cache
def application(name):
    """One of `keras.applications`, with random weights."""
    return getattr(keras.applications, name)(weights=None)


def two_convolutions(name="small"):
    """16 x 16 x 3, a convolution of stride 2, and one more: both "same"."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, 2, padding="same", name="conv1")(inputs)
    return keras.Model(inputs, layers.Conv2D(4, 3, padding="same", name="conv2")(x), name=name)


def last_row(function, shape=(8, 8, 1), **options):
    """The last row of the analysis of a layer, or of a function of a tensor, on an input of `shape`."""
    inputs = keras.Input(shape, **options)
    return analyze(keras.Model(inputs, function(inputs))).rows[-1]
