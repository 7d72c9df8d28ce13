"""Recurrent layers: what their outputs depend on, and their cost multiplied out by hand."""

import keras
import pytest
from helpers.observed_cells import assert_as_observed, changed_cells, extent
from keras import layers, ops

from keras_cnn.analysis import analyze
from keras_cnn.analysis.fields.costs import Cost
from keras_cnn.geometry import Field


def analyzed(layer, shape):
    inputs = keras.Input(**shape) if isinstance(shape, dict) else keras.Input(shape)
    return analyze(keras.Model(inputs, layer(inputs)))


# layer, input shape -> (MACs, bias, normalisation, activation, pooling, elementwise) of 5 steps, with 4 inputs.
COSTS = {
    # An LSTM has 4 gates of 3 units, 5 activations a unit, and 8 sums and products: 4 of x and h, f c, i g, +, o tanh c.
    "cell": (layers.RNN(layers.LSTMCell(3)), (5, 4), (5 * 12 * (4 + 3), 60, 0, 75, 0, 120)),
    "cells": (
        layers.RNN([layers.LSTMCell(3), layers.SimpleRNNCell(2)]),
        (5, 4),
        (5 * (12 * 7 + 2 * (3 + 2)), 60 + 10, 0, 75 + 10, 0, 120 + 10),
    ),
    "batch": (layers.LSTM(3), {"batch_shape": (8, 5, 4)}, (5 * 12 * 7, 60, 0, 75, 0, 120)),
    "frames": (layers.TimeDistributed(layers.LSTM(3)), (6, 5, 4), (6 * 5 * 12 * 7, 360, 0, 450, 0, 720)),
    # 5 steps of 4 x 3 places: 3 x 2 taps from 2 channels and from 3, to 4 gates of 3.
    "convolutional": (
        layers.ConvLSTM2D(3, (3, 2), strides=2, padding="same"),
        (5, 8, 6, 2),
        (5 * 12 * 6 * (2 + 3) * 12, 5 * 12 * 12, 0, 5 * 12 * 15, 0, 5 * 12 * 24),
    ),
    "convolutional, channels first": (
        layers.ConvLSTM1D(3, 3, return_sequences=True, use_bias=False, data_format="channels_first"),
        (5, 2, 9),
        (5 * 7 * 3 * (2 + 3) * 12, 0, 0, 5 * 7 * 15, 0, 5 * 7 * 24),
    ),
}


@pytest.mark.parametrize("name", COSTS)
def test_costs(name):
    layer, shape, expected = COSTS[name]
    assert analyzed(layer, shape).cost == Cost(*expected)


@pytest.mark.parametrize(
    "layer",
    [
        layers.ConvLSTM2D(2, (3, 2), padding="same"),
        layers.ConvLSTM2D(2, (2, 3), strides=(2, 1)),
        layers.ConvLSTM2D(2, 3, dilation_rate=2),
    ],
)
def test_convolutional_state(layer):
    """The last state has passed over all steps, each of which widens it."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3, 15, 13, 1))
    model = keras.Model(inputs, layer(inputs))
    row = analyze(model).rows[-1]
    assert row.receptive_field[0] == Field(3, 0, 0)
    for axis in (1, 2):
        # The smallest true change is above 1e-4; sums in another order differ by some 1e-7.
        cells = changed_cells(model, axis, amount=3.0, threshold=1e-5)
        for unit in ((0, 0), (3, 4), tuple(size - 1 for size in cells.shape[1:])):
            assert row.box(unit)[axis] == extent(cells[(slice(None), *unit)])


def test_sequences_are_upper_bounds_in_one_direction_only():
    inputs = keras.Input((6, 4))
    for layer, bound in (
        (layers.LSTM(2, return_sequences=True, name="seq"), True),
        (layers.Bidirectional(layers.LSTM(2, return_sequences=True), name="seq"), False),
        (layers.Bidirectional(layers.LSTM(2, return_sequences=True), merge_mode=None, name="seq"), True),
    ):
        outputs = layer(inputs)
        found = analyze(keras.Model(inputs, outputs))
        note = ("seq: a unit there and in the following rows may see less than its field.",)
        assert found.notes == (note if bound else ()) and found.receptive_field == (Field(6, 0, 0),)
    found = analyzed(layers.ConvLSTM1D(2, 3, return_sequences=True, name="seq"), (3, 9, 1))
    assert found.notes == note


def test_each_frame_has_a_state_of_its_own():
    inputs = keras.Input((6, 5, 4))
    model = keras.Model(inputs, layers.TimeDistributed(layers.LSTM(3))(inputs))
    assert analyze(model).receptive_field == (Field(1, 1, 0), Field(5, 0, 0))
    assert_as_observed(model, lambda model, axis: changed_cells(model, axis, amount=1.0, threshold=1e-6))


@keras.saving.register_keras_serializable(package="test")
class Leaky(layers.Layer):
    """A cell of someone."""

    state_size = output_size = 3

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 3), name="kernel")

    def call(self, x, states):
        state = ops.matmul(x, self.kernel) + 0.5 * states[0]
        return state, [state]


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (lambda: layers.RNN(Leaky(), name="odd"), ["odd"]),
        (lambda: layers.RNN([layers.LSTMCell(3), Leaky()], name="odd"), ["odd"]),
        (
            lambda: layers.Bidirectional(layers.RNN(Leaky(), name="one"), name="odd"),
            ["odd/backward_one", "odd/forward_one"],
        ),
    ],
)
def test_cells_that_are_not_known(layer, names):
    """Nothing is guessed, and no total hides it."""
    found = analyzed(layer(), (5, 4))
    assert found.receptive_field == (Field(None, None, None),)
    assert (found.rows[-1].macs, found.macs, found.cost.activation) == (None, None, None)
    (note,) = found.notes
    found_names, _, sentence = note.partition(" (RNN) ")
    assert sorted(found_names.split(", ")) == names
    assert (
        sentence
        == {
            1: "is not known and cannot be followed: fields after it are unknown, and its operations are not counted.",
            2: "are not known and cannot be followed: fields after them are unknown, and their operations are not counted.",
        }[len(names)]
    )
