"""Small networks that several test files train."""

import keras
from keras import layers

import keras_cnn as kc
from keras_cnn.backbones import Source, Stage


def staged_backbone(*stages, around=False):
    """A network of stages that halve the map; `around`: with a path from the image to the end next to all of them."""
    x = image = keras.Input((32, 32, 3))
    for name in stages:
        x = layers.Identity(name=name)(layers.Conv2D(4, 2, 2)(x))
    if around:
        x = layers.Add()([x, layers.Conv2D(4, 2 ** len(stages), 2 ** len(stages))(image)])
    known = tuple(Stage(name, 2**number, 4) for number, name in enumerate(stages, 1))
    return kc.Backbone(keras.Model(image, x), known, kc.Preprocessing(32), Source("a network", "random weights"))
