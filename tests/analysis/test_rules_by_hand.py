"""Rules of single layers and operations, on maps so small that the answer is written down."""

import keras
import numpy as np
import pytest
from helpers.analyzed_models import last_row
from keras import layers, ops

from keras_cnn.analysis import analyze
from keras_cnn.analysis.fields.costs import Cost
from keras_cnn.geometry import Field

ONE = Field(1, 1, 0)
# function, input shape -> output shape, field.
FIELDS = {
    "embedding": (layers.Embedding(10, 4), (8,), (8, 4), (ONE,)),
    "gated linear unit": (ops.glu, (5, 4), (5, 2), (ONE,)),
    "max pooling": (lambda x: ops.max_pool(x, 3, 2), (7, 9, 4), (3, 4, 4), (Field(3, 2, 0),) * 2),
    "average pooling": (
        lambda x: ops.average_pool(x, (2, 3), 1),
        (7, 9, 4),
        (6, 7, 4),
        (Field(2, 1, 0), Field(3, 1, 0)),
    ),
    "repeated vector": (
        lambda x: layers.RepeatVector(3)(layers.GlobalMaxPooling2D()(x)),
        (4, 5, 1),
        (3, 1),
        (Field(4, 0, 0), Field(5, 0, 0)),
    ),
    "reduction of all axes": (
        lambda x: ops.max(x, axis=None, keepdims=True),
        (4, 5, 1),
        (1, 1, 1),
        (Field(4, 0, 0), Field(5, 0, 0)),
    ),
    "concatenation of unknown sizes": (
        lambda x: ops.concatenate([x, x], axis=1),
        (None, 1),
        (None, 1),
        (Field(None, None, None),),
    ),
    "pooling of unknown padding, pooled": (
        lambda x: layers.GlobalMaxPooling1D()(layers.MaxPooling1D(2, padding="same")(x)),
        (None, 1),
        (1,),
        (Field(None, 0, None),),
    ),
}


@pytest.mark.parametrize("name", FIELDS)
def test_fields(name):
    function, shape, output_shape, field = FIELDS[name]
    row = last_row(function, shape)
    assert (row.output_shape, row.receptive_field) == (output_shape, field)


# function, input shape -> what some units see.
BOXES = {
    "repeated by a list": (lambda x: ops.repeat(x, [1, 0, 2, 1], axis=1), (4, 1), {0: (0,), 1: (2,), 2: (2,), 3: (3,)}),
    "taken at equal distances": (lambda x: ops.take(x, [1, 3, 5], axis=1), (6, 1), {0: (1,), 1: (3,), 2: (5,)}),
    "an index of one row": (lambda x: x[:, 2], (4, 5, 1), {3: (2, 3)}),
}


@pytest.mark.parametrize("name", BOXES)
def test_boxes(name):
    function, shape, cells = BOXES[name]
    row = last_row(function, shape)
    for unit, seen in cells.items():
        assert row.box((unit,)) == tuple((cell, cell) for cell in seen)


def test_a_slice_of_a_known_batch():
    row = last_row(lambda x: ops.slice(x, (0, 3, 1, 0), (1, 4, 5, 1)), (8, 8, 1), batch_size=1)
    assert row.receptive_field == (Field(1, 1, -3), Field(1, 1, -1)) and row.box((0, 2)) == ((3, 3), (3, 3))


# function, input shape -> what every unit may see at most, where it is not known which unit sees what.
BOUNDS = {
    "sizes that do not divide": (layers.Reshape((5, 6, 1)), (6, 5, 1), ((0, 5), (0, 4))),
    "sizes that divide in part": (layers.Reshape((4, 9, 1)), (6, 6, 1), ((0, 5), (0, 5))),
    "rows beside columns": (
        lambda x: ops.concatenate([x, layers.Permute((2, 1, 3))(x)], axis=1),
        (4, 4, 1),
        ((0, 3), (0, 3)),
    ),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_upper_bounds(name):
    function, shape, box = BOUNDS[name]
    inputs = keras.Input(shape)
    found = analyze(keras.Model(inputs, function(inputs)))
    assert {found.rows[-1].box(unit) for unit in ((0, 0), (2, 3))} == {box}
    assert "may see less" in found.notes[0]


def test_groups_that_split_a_row():
    """Channels are 3 columns of 2. Half of them is one column and a half: a unit sees all columns, or it is not known."""
    row = last_row(lambda x: layers.Conv1D(2, 1, groups=2)(layers.Reshape((4, 6))(x)), (4, 3, 2))
    assert [row.box((unit,)) for unit in (0, 3)] == [((0, 0), (0, 2), (0, 1)), ((3, 3), (0, 2), (0, 1))]


# function, input shape -> (MACs, bias, normalisation, activation, pooling, elementwise).
COSTS = {
    "max pooling": (lambda x: ops.max_pool(x, 3, 2), (7, 7, 4), (0, 0, 0, 0, 9 * 9 * 4, 0)),
    "average pooling": (lambda x: ops.average_pool(x, (2, 3), 1), (7, 9, 4), (0, 0, 0, 0, 6 * 7 * 4 * 6, 0)),
    "root mean square": (ops.rms_normalization, (5, 4), (0, 0, 20, 0, 0, 0)),
    "batch normalisation": (
        lambda x: ops.batch_normalization(x, np.zeros(4, "float32"), np.ones(4, "float32"), axis=-1),
        (5, 4),
        (0, 0, 20, 0, 0, 0),
    ),
}


@pytest.mark.parametrize("name", COSTS)
def test_costs_of_operations(name):
    function, shape, expected = COSTS[name]
    assert last_row(function, shape).cost == Cost(*expected)
