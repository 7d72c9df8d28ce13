"""Small networks that several test files train."""

import keras
from keras import layers

import keras_cnn as kc
from keras_cnn import blocks
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


def random_backbone():
    """Three stages of convolution and batch norm on 64 x 64 pixels, the same random weights each time."""
    keras.utils.set_random_seed(0)
    stages = {
        "stage1": [layers.Rescaling(1 / 127.5, -1), lambda x: blocks.conv_norm_act(x, 16, strides=2)],
        "stage2": lambda x: blocks.conv_norm_act(x, 24, strides=2),
        "stage3": lambda x: blocks.conv_norm_act(x, 32, strides=2),
    }
    known = (Stage("stage1", 2, 16), Stage("stage2", 4, 24), Stage("stage3", 8, 32))
    return kc.Backbone(
        kc.build((64, 64, 3), stages), known, kc.Preprocessing(64), Source("a network", "random weights")
    )
