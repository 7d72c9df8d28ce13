"""Which cells a unit sees, by hand: borders, paddings of all kinds, axes in another order, rows that are cut and joined."""

import re
from fractions import Fraction

import keras
import pytest
from helpers.analyzed_models import last_row
from keras import layers, ops

import keras_cnn as kc
from keras_cnn.analysis import analyze
from keras_cnn.geometry import Field

NOTHING = ((None, None), (None, None))


def test_fractional_strides_and_turns():
    """After nearest upsampling by 2 a 3-cell window covers two input cells, {i/2 - 1, i/2} or {(i-1)/2, (i+1)/2}."""
    row = last_row(lambda x: layers.Conv1D(1, 3, padding="same")(layers.UpSampling1D(2)(x)), (16, 1))
    assert row.receptive_field == (Field(2, Fraction(1, 2), 1),)
    assert [row.box((unit,)) for unit in (8, 9)] == [((3, 4),), ((4, 5),)]
    assert row.to_dict()["receptive_field"] == [{"size": 2, "stride": 0.5, "padding": 1}]


def test_antialiasing_widens_the_kernel():
    """A triangle of two new cells to each side: from 12 to 4 it spans 5 of 12 cells, 3 apart; bicubic, twice that."""
    assert last_row(layers.Resizing(4, 4, antialias=True), (12, 12, 1)).receptive_field == (Field(5, 3, 1),) * 2
    bicubic = last_row(layers.Resizing(4, 4, "bicubic", antialias=True), (12, 12, 1))
    assert bicubic.receptive_field == (Field(11, 3, 4),) * 2
    assert last_row(layers.Resizing(4, 4), (12, 12, 1)).receptive_field == (Field(1, 3, -1),) * 2


def test_backwards():
    """Unit i of 8 sees cell 7 - i: a stride of -1 that begins 7 cells in; twice is as if nothing had been."""
    row = last_row(lambda x: ops.flip(x, 1))
    assert row.receptive_field == (Field(1, -1, -7), Field(1, 1, 0)) and row.box((2, 3)) == ((5, 5), (3, 3))
    assert last_row(lambda x: ops.flip(layers.Conv2D(1, 3)(ops.flip(x, 1)), 1)).receptive_field == (Field(3, 1, 0),) * 2


def test_what_padding_copies_is_seen():
    """The first window of a reflected row 2 1 | 0 1 2 3 reads the cells 2, 1 and 0; of zeros, only 0."""
    options = {"padding": 2, "kernel_initializer": "ones"}
    first = {
        mode: last_row(kc.layers.Conv2D(1, 3, padding_mode=mode, **options)).box((0, 4))[0]
        for mode in ("zeros", "reflect")
    }
    assert first == {"zeros": (0, 0), "reflect": (0, 2)}
    assert last_row(kc.layers.Conv2D(1, 3, padding_mode="circular", **options)).box((0, 4))[0] == (0, 7)
    reflected = last_row(lambda x: ops.pad(x, ((0, 0), (3, 0), (0, 0), (0, 0)), mode="reflect"))
    assert reflected.receptive_field == (Field(1, 1, 3), Field(1, 1, 0))
    assert [reflected.box((unit, 0))[0] for unit in (0, 2, 3)] == [(3, 3), (1, 1), (0, 0)]


def test_units_in_padding_see_nothing():
    """Three rows of zeros before and after eight, seen one by one and two by two."""
    padded = last_row(layers.ZeroPadding2D(3))
    assert [padded.box((unit, 5)) for unit in (0, 2, 3, 10, 11)] == [
        NOTHING,
        NOTHING,
        ((0, 0), (2, 2)),
        ((7, 7), (2, 2)),
        NOTHING,
    ]
    pooled = last_row(lambda x: layers.AveragePooling2D(2)(layers.ZeroPadding2D(3)(x)))
    assert [pooled.box((unit, 3))[0] for unit in range(7)] == [
        (None, None),
        (0, 0),
        (1, 2),
        (3, 4),
        (5, 6),
        (7, 7),
        (None, None),
    ]


def test_gaps_of_a_transposed_convolution():
    row = last_row(layers.Conv1DTranspose(1, 1, 3), (8, 1))
    assert [row.box((unit,)) for unit in (3, 4, 5, 6)] == [((1, 1),), ((None, None),), ((None, None),), ((2, 2),)]


def test_a_unit_is_a_position_of_the_output():
    """Height and width exchanged: unit (1, 5) of a map of 5 x 9 sees row 5, column 1 of the input; of tokens, its number."""
    row = last_row(layers.Permute((2, 1, 3)), (9, 5, 2))
    assert row.output_shape == (5, 9, 2) and row.box((1, 5)) == ((5, 5), (1, 1))
    first = last_row(layers.Permute((3, 1, 2)), (9, 5, 2))
    assert first.output_shape == (2, 9, 5) and first.box((5, 1)) == ((5, 5), (1, 1))
    tokens = last_row(layers.Reshape((45, 2)), (9, 5, 2))
    assert tokens.box((26,)) == ((5, 5), (1, 1)) and tokens.receptive_field == (Field(1, 1, 0),) * 2
    folded = last_row(lambda x: ops.space_to_depth(x, 2))
    assert folded.receptive_field == (Field(2, 2, 0),) * 2 and folded.box((3, 0)) == ((6, 7), (0, 1))
    pooled = last_row(layers.GlobalAveragePooling2D())
    assert pooled.box(()) == pooled.box() == ((0, 7), (0, 7))


@pytest.mark.parametrize(
    ("unit", "sentence"),
    [
        ((8, 0), "box: `unit` must be a position in the output of 'conv', which has 6 × 6. Received: unit=(8, 0)."),
        ((-1, 0), "box: `unit` must be an integer of at least 0, or 2 of them. Received: unit=(-1, 0)."),
        ((1, 2, 3), "box: `unit` must be an integer of at least 0, or 2 of them. Received: unit=(1, 2, 3)."),
    ],
)
def test_units_that_do_not_exist(unit, sentence):
    row = last_row(layers.Conv2D(4, 3, name="conv"))
    with pytest.raises(ValueError, match=re.escape(sentence)):
        row.box(unit)


def test_rows_that_a_reshape_splits_unevenly():
    """8 rows of 8 as 4 of 16: a unit to the right may stand a row below. The box is right, one field there is not."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Reshape((4, 16, 3), name="uneven")(inputs)
    found = analyze(keras.Model(inputs, x))
    assert found.receptive_field == (Field(None, None, None),) * 2
    assert [found.rows[-1].box(unit) for unit in ((1, 7), (1, 8), (3, 15))] == [
        ((2, 2), (7, 7)),
        ((3, 3), (0, 0)),
        ((7, 7),) * 2,
    ]
    assert found.notes == (
        "uneven: units there are not one stride apart, so they have no single size, stride and padding, until a layer "
        "puts them in order; `Row.box` has the cells of each.",
    )
    restored = analyze(keras.Model(inputs, layers.Conv2D(1, 3)(layers.Reshape((8, 8, 3))(x))))
    assert restored.receptive_field == (Field(3, 1, 0),) * 2
    windowed = analyze(keras.Model(inputs, layers.Conv2D(1, 3, name="conv")(x)))
    assert windowed.notes[0] == "conv: a unit there and in the following rows may see less than its field."
    assert windowed.rows[-1].box((0, 0)) == ((0, 7), (0, 7))


def test_parts_that_see_less_than_others():
    """The upper half as it is beside the lower half behind a convolution: boxes are exact, the one field is a bound."""
    inputs = keras.Input((8, 9, 1))
    above, below = ops.split(inputs, 2, axis=1)
    x = layers.Concatenate(1, name="halves")([above, layers.Conv2D(1, (1, 3), padding="same")(below)])
    found = analyze(keras.Model(inputs, x))
    assert [found.rows[-1].box((row, 4)) for row in (3, 4)] == [((3, 3), (4, 4)), ((4, 4), (3, 5))]
    assert found.receptive_field == (Field(1, 1, 0), Field(3, 1, 1))
    assert found.notes == ("halves: a unit there and in the following rows may see less than its field.",)


def test_rows_that_meet_columns():
    """An outer sum: each unit of the sum of a column and a row sees all of both; local and global fields stay separate."""
    inputs = keras.Input((5, 7, 1))
    rows, columns = ops.mean(inputs, axis=2, keepdims=True), ops.mean(inputs, axis=1, keepdims=True)
    row = analyze(keras.Model(inputs, layers.Add(name="sum")([rows, columns]))).rows[-1]
    assert row.receptive_field == (Field(1, 1, 0), Field(1, 1, 0)) and row.box((3, 2)) == ((3, 3), (2, 2))
    assert row.global_field == (Field(5, 0, 0), Field(7, 0, 0))


def test_a_ring_put_together_by_hand():
    """The last two columns before the first: as circular padding of two, in theory and in fact."""
    row = last_row(lambda x: ops.concatenate([x[:, :, -2:], x], axis=2))
    assert row.receptive_field == (Field(1, 1, 0), Field(1, 1, 2))
    assert [row.box((0, unit))[1] for unit in (0, 1, 2, 9)] == [(6, 6), (7, 7), (0, 0), (7, 7)]


def test_strips_that_a_convolution_does_not_leave():
    """Two strips of four rows: rows 3 and 4 lie side by side and do not see each other."""

    def within(x):
        x = layers.Conv3D(1, (1, 3, 1), padding="same")(layers.Reshape((2, 4, 8, 1))(x))
        return layers.Reshape((8, 8, 1))(x)

    row = last_row(within)
    assert row.receptive_field == (Field(3, 1, 1), Field(1, 1, 0))
    assert [row.box((unit, 0))[0] for unit in (2, 3, 4, 5)] == [(1, 3), (2, 3), (4, 5), (4, 6)]


def test_the_adjoint_of_a_ring():
    """Where the convolution reads the other end, its transpose gives to it: cell 0 reads the last unit too."""
    conv = kc.layers.Conv1D(1, 3, padding=1, padding_mode="circular")
    conv.build((None, 8, 1))
    row = last_row(kc.layers.ConvAdjoint1D(conv, 8), (8, 1))
    assert [row.box((unit,)) for unit in (0, 1, 7)] == [((0, 7),), ((0, 2),), ((0, 7),)]


def test_a_kernel_that_is_made_of_the_input():
    """Each unit sees its window, and, through the kernel, what that was made of."""
    inputs = keras.Input((8, 8, 1), batch_size=1)
    kernel = ops.reshape(ops.mean(inputs[:, :6, :6], axis=0), (6, 6, 1, 1))[:3, :3]
    row = analyze(keras.Model(inputs, ops.conv(inputs, kernel, 1))).rows[-1]
    assert row.receptive_field == (Field(3, 1, 0),) * 2 and row.global_field == (Field(3, 0, 0),) * 2


def test_a_branch_that_is_not_known_leaves_nothing_known():
    row = last_row(lambda x: layers.Add()([x, ops.sort(x, axis=1)]))
    assert row.receptive_field == (Field(None, None, None),) * 2 and row.box((3, 3)) == NOTHING
