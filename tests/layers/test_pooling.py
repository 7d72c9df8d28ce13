"""Minimum pooling against Keras' maximum and by hand; BlurPool2D by hand."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_cnn import layers

PAIRS = [
    (layers.MinPooling1D, keras.layers.MaxPooling1D, (2, 7, 3)),
    (layers.MinPooling2D, keras.layers.MaxPooling2D, (2, 7, 6, 3)),
    (layers.MinPooling3D, keras.layers.MaxPooling3D, (2, 5, 6, 4, 3)),
]
GLOBAL_PAIRS = [
    (layers.GlobalMinPooling1D, keras.layers.GlobalMaxPooling1D, (2, 7, 3)),
    (layers.GlobalMinPooling2D, keras.layers.GlobalMaxPooling2D, (2, 7, 6, 3)),
    (layers.GlobalMinPooling3D, keras.layers.GlobalMaxPooling3D, (2, 5, 6, 4, 3)),
]
ROW = np.array([3, 1, 2, 5, 4], "float32").reshape(1, 5, 1)


def row(layer, values=ROW):
    return ops.convert_to_numpy(layer(values)).ravel().tolist()


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("minimum", "maximum", "shape"), PAIRS)
def test_mirrors_max_pooling(minimum, maximum, shape, padding):
    """min(x) = -max(-x) against Keras' own layer, with infinities and NaN among the numbers."""
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    x.flat[::11], x.flat[5::13], x.flat[7::29] = np.inf, -np.inf, np.nan
    for arguments in ({}, {"pool_size": 3, "strides": 2}, {"pool_size": 3, "strides": 1}):
        expected = -ops.convert_to_numpy(maximum(padding=padding, **arguments)(-x))
        np.testing.assert_array_equal(minimum(padding=padding, **arguments)(x), expected)


@pytest.mark.parametrize(("minimum", "maximum", "shape"), GLOBAL_PAIRS)
def test_mirrors_global_max_pooling(minimum, maximum, shape):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    np.testing.assert_array_equal(minimum()(x), x.min(tuple(range(1, len(shape) - 1))))
    x.flat[::11], x.flat[5] = np.inf, np.nan
    for keepdims in (False, True):
        expected = -ops.convert_to_numpy(maximum(keepdims=keepdims)(-x))
        np.testing.assert_array_equal(minimum(keepdims=keepdims)(x), expected)


def test_minimum_by_hand():
    assert row(layers.MinPooling1D(2)) == [1, 2]
    assert row(layers.MinPooling1D(3, strides=1)) == [1, 1, 2]


class _Plus(keras.layers.Layer):
    """x + w, so that one step of SGD leaves minus the gradient with respect to x in w."""

    def build(self, input_shape):
        self.w = self.add_weight(shape=input_shape[1:], initializer="zeros")

    def call(self, inputs):
        return inputs + self.w


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: layers.MinPooling1D(3, strides=1), [0, 2 + 2, 4, 0, 0]),  # minima 1, 1, 2
        (lambda: layers.GlobalMinPooling1D(), [0, 2, 0, 0, 0]),
    ],
)
def test_gradient_of_the_sum_of_squares_by_hand(make, expected):
    plus = _Plus()
    model = keras.Sequential([keras.Input((5, 1)), plus, make()])
    model.compile(keras.optimizers.SGD(1.0), loss=lambda _, y: ops.sum(ops.square(y)), run_eagerly=True)
    model.train_on_batch(ROW, np.zeros(1))
    np.testing.assert_array_equal(plus.get_weights()[0].ravel(), -np.array(expected))


def test_padding_never_is_the_minimum():
    """All numbers are above 0, where a padding of zeros would win."""
    assert row(layers.MinPooling1D(3, strides=2, padding="same")) == [1, 1, 4]
    assert row(layers.MinPooling1D(5, strides=1, padding="same"), ROW + 1e30) == [np.float32(1e30)] * 5


def test_arguments_are_those_of_max_pooling():
    layer = layers.MinPooling2D((2, 3), strides=None, padding="same", data_format="channels_last", name="p")
    reference = keras.layers.MaxPooling2D((2, 3), strides=None, padding="same", data_format="channels_last", name="p")
    assert layer.get_config() == reference.get_config()
    assert isinstance(layer, keras.layers.MaxPooling2D)  # what reads pooling layers, reads this


def blurred(values, **arguments):
    """One row through a filter of the same size across rows that are all equal: what a 1-D filter gives."""
    image = np.repeat(np.asarray(values, "float32")[None, None, :, None], 5, axis=1)
    return ops.convert_to_numpy(layers.BlurPool2D(**arguments)(image))[0, 0, :, 0].tolist()


def test_blur_by_hand():
    assert blurred([0, 0, 4, 0, 0], strides=1) == [0, 1, 2, 1, 0]
    assert blurred([0, 0, 16, 0, 0], pool_size=5, strides=1, padding="valid") == [6]
    assert blurred([2, 4, 6, 8], pool_size=2, padding="valid") == [3, 7]
    # "same" with size 4 and stride 2 pads after the data only: (4 + 2 * 8 + 12) / 4, then (12 + 2 * 15) / 3.
    assert blurred([4, 8, 12, 15], padding="same") == [8, 14]


def test_blur_filters_each_axis_by_its_size():
    impulse = np.zeros((1, 5, 5, 2), "float32")
    impulse[0, 2, 2] = 16, 32
    result = ops.convert_to_numpy(layers.BlurPool2D(pool_size=(1, 3), strides=1)(impulse))
    expected = np.zeros((5, 5))
    expected[2] = 0, 4, 8, 4, 0
    np.testing.assert_array_equal(result[0, :, :, 0], expected)
    np.testing.assert_array_equal(result[0, :, :, 1], 2 * expected)


@pytest.mark.parametrize("size", [(7, 8), (1, 1), (2, 3)])
@pytest.mark.parametrize("pool_size", [2, 3, 4, 5, 7])
def test_blur_keeps_a_constant_map_up_to_its_border(size, pool_size):
    result = ops.convert_to_numpy(layers.BlurPool2D(pool_size)(np.full((1, *size, 2), 3, "float32")))
    assert result.shape == (1, -(-size[0] // 2), -(-size[1] // 2), 2)
    np.testing.assert_allclose(result, 3, rtol=1e-6)


def test_blur_takes_away_what_a_stride_cannot_show():
    """The finest pattern, +1 -1 +1 -1, has no place on the coarse map: a plain stride makes a constant of it."""
    pattern = np.tile([1.0, -1.0], 8)
    assert pattern[::2].tolist() == [1] * 8
    assert blurred(pattern, padding="valid") == [0] * 7


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: layers.BlurPool2D(strides=(1, 2)),
            "BlurPool2D: `strides` must be the same for both axes. Received: strides=(1, 2).",
        ),
        (
            lambda: layers.BlurPool2D(pool_size=0),
            "BlurPool2D: `pool_size` must be an integer of at least 1, or 2 of them",
        ),
        (lambda: layers.BlurPool2D(padding="full"), "BlurPool2D: `padding` must be one of 'same', 'valid'."),
        (lambda: layers.BlurPool2D(data_format="NCHW"), "must be one of 'channels_last', 'channels_first'."),
        (lambda: layers.BlurPool2D(5, padding="valid")(np.ones((1, 9, 3, 1))), "(3 + 0 − 5) / 2 + 1 = 0"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        make()
