"""The defaults of a job."""

import keras
import pytest
from keras import layers

import keras_cnn as kc
from keras_cnn.backbones import Source, Stage
from pipelines import settings


def backbone(*stages, around=False):
    """A network of stages that halve the map; `around`: with a path from the image to the end beside all of them."""
    x = image = keras.Input((32, 32, 3))
    for name in stages:
        x = layers.Identity(name=name)(layers.Conv2D(4, 2, 2)(x))
    if around:
        x = layers.Add()([x, layers.Conv2D(4, 2 ** len(stages), 2 ** len(stages))(image)])
    known = tuple(Stage(name, 2**number, 4) for number, name in enumerate(stages, 1))
    return kc.Backbone(keras.Model(image, x), known, kc.Preprocessing(32), Source("a network", "random weights"))


@pytest.mark.parametrize(
    ("network", "frozen", "trained", "epochs"),
    [
        (backbone("stage1", "stage2", "stage3"), "stage2", "stage3", 12),
        (backbone("stage1"), "stage1", "pool", 0),
        (backbone("stage1", "stage2", around=True), "stage2", "pool", 0),
    ],
    ids=["stages", "one stage", "a path around"],
)
def test_where_a_network_is_taken_apart(network, frozen, trained, epochs):
    chosen = settings.choose(network, training_images=100)
    assert (chosen.frozen_through, chosen.trained_from, chosen.epochs) == (frozen, trained, epochs)
    assert settings.choose(network, 100, epochs=3).epochs == 3


def test_about_1500_steps_are_made_but_5_to_12_epochs():
    network = backbone("stage1", "stage2")
    assert [settings.choose(network, images).epochs for images in (32 * 100, 32 * 200, 32 * 1000)] == [12, 7, 5]
