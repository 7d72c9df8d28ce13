"""The range test finds where a known problem diverges, and leaves nothing behind."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_cnn.training import find_learning_rate

X = np.random.default_rng(0).normal(size=(64, 1)).astype("float32")


def quadratic(optimizer):
    """Loss w^2 / 2, whose slope is w: gradient descent shrinks w by |1 - rate| a step, so it diverges beyond a rate of 2."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    model.compile(optimizer, lambda truth, found: found**2 / 2, jit_compile=False)
    return model


@pytest.mark.slow
def test_the_loss_rises_behind_the_rate_of_divergence():
    model = quadratic(keras.optimizers.SGD(0.01))
    curve = find_learning_rate(model, (np.ones((16, 1)), np.ones(16)), 1e-3, 100, steps=60)
    assert len(curve.rates) < 60 and curve.rates[-1] > 2
    turn = curve.rates[np.argmin(curve.losses)]
    assert turn >= curve.rates[curve.rates < 2][-1] and curve.suggestion == pytest.approx(turn / 10)
    assert (np.diff(curve.losses)[curve.rates[1:] < 2] < 0).all()


@pytest.mark.parametrize("kind", ["arrays", "dataset"])
def test_everything_is_put_back(kind, tmp_path):
    model = quadratic(keras.optimizers.Adam(0.01))
    data = (X, X) if kind == "arrays" else tf.data.Dataset.from_tensor_slices((X, X)).batch(8)
    before = [np.array(value) for value in (*model.variables, *model.optimizer.variables)]
    curve = find_learning_rate(model, data, steps=20)
    assert len(curve.rates) == 20 == len(curve.losses)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01) and int(model.optimizer.iterations) == 0
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    curve.plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_use_is_refused():
    model = quadratic(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10)))
    with pytest.raises(ValueError, match="a schedule"):
        find_learning_rate(model, (X, X))
    with pytest.raises(ValueError, match="`lowest` must be more than 0"):
        find_learning_rate(model, (X, X), lowest=2)
    with pytest.raises(ValueError, match="Call compile first"):
        find_learning_rate(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]), (X, X))
