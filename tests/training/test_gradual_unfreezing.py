"""Layers change from the epoch in which the schedule unfreezes them, and not before."""

import keras
import numpy as np
import pytest

from keras_cnn.training import GradualUnfreezing, freeze

IMAGES, LABELS = np.random.default_rng(0).normal(size=(8, 4)).astype("float32"), np.arange(8) % 2


def network():
    names = ("first", "second", "head")
    model = keras.Sequential([keras.Input((4,)), *(keras.layers.Dense(4, "tanh", name=name) for name in names)])
    freeze(model, up_to="second")
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", metrics=["mae"], jit_compile=False)
    return model


class Moves(keras.callbacks.Callback):
    """Per epoch, the layers whose kernel changed in it."""

    def on_train_begin(self, logs=None):
        self.found = []

    def on_epoch_begin(self, epoch, logs=None):
        self.before = {layer.name: np.array(layer.kernel) for layer in self.model.layers}

    def on_epoch_end(self, epoch, logs=None):
        moved = [
            name
            for name, kernel in self.before.items()
            if not np.array_equal(kernel, self.model.get_layer(name).kernel)
        ]
        self.found.append(moved)


@pytest.mark.slow
def test_layers_change_from_their_epoch_on():
    model, moves = network(), Moves()
    callbacks = [GradualUnfreezing({1: "second", 3: "first"}), moves]
    history = model.fit(IMAGES, np.eye(4)[LABELS], epochs=4, callbacks=callbacks, verbose=0).history
    assert moves.found == [["head"], ["second", "head"], ["second", "head"], ["first", "second", "head"]]
    assert len(history["mae"]) == 4 and int(model.optimizer.iterations) == 4


def test_a_later_start_catches_up():
    model, moves = network(), Moves()
    callbacks = [GradualUnfreezing({1: "second", 2: "first"}), moves]
    model.fit(IMAGES, np.eye(4)[LABELS], initial_epoch=2, epochs=3, callbacks=callbacks, verbose=0)
    assert moves.found == [["first", "second", "head"]]


def test_wrong_schedules_are_refused():
    for schedule in ({}, None, {-1: "first"}, {"1": "first"}):
        with pytest.raises(ValueError, match="GradualUnfreezing: `schedule` must be"):
            GradualUnfreezing(schedule)
    with pytest.raises(ValueError, match="nowhere"):
        network().fit(IMAGES, np.eye(4)[LABELS], callbacks=[GradualUnfreezing({0: "nowhere"})], verbose=0)
