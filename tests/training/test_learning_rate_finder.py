"""The range test finds the rate at which a known problem diverges, and restores the model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.slow import mark_slow

import keras_cnn as kc
from keras_cnn.training import find_learning_rate

X = np.random.default_rng(0).normal(size=(64, 1)).astype("float32")


def quadratic(optimizer):
    """Loss w^2 / 2 with slope w: each step of gradient descent multiplies w by 1 - rate, so it diverges beyond a rate of 2."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    model.compile(optimizer, lambda truth, found: found**2 / 2, jit_compile=False)
    return model


@pytest.mark.slow
def test_the_loss_rises_after_the_rate_of_divergence():
    model = quadratic(keras.optimizers.SGD(0.01))
    curve = find_learning_rate(model, (np.ones((16, 1)), np.ones(16)), 1e-3, 100, steps=60)
    assert len(curve.learning_rates) < 60 and curve.learning_rates[-1] > 2
    turn = curve.learning_rates[np.argmin(curve.losses)]
    assert turn >= curve.learning_rates[curve.learning_rates < 2][-1] and curve.suggestion == pytest.approx(turn / 10)
    assert (np.diff(curve.losses)[curve.learning_rates[1:] < 2] < 0).all()


@pytest.mark.parametrize("kind", mark_slow(["arrays", "dataset"], except_for=["arrays"]))
def test_everything_is_restored(kind, tmp_path):
    model = quadratic(keras.optimizers.Adam(0.01))
    data = (X, X) if kind == "arrays" else tf.data.Dataset.from_tensor_slices((X, X)).batch(8)
    before = [np.array(value) for value in (*model.variables, *model.optimizer.variables)]
    curve = find_learning_rate(model, data, steps=20)
    assert len(curve.learning_rates) == 20 == len(curve.losses)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01) and int(model.optimizer.iterations) == 0
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    curve.plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_invalid_arguments_are_refused():
    scheduled = keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10))
    for optimizer in (scheduled, keras.optimizers.LossScaleOptimizer(scheduled)):
        with pytest.raises(ValueError, match="a schedule"):
            find_learning_rate(quadratic(optimizer), (X, X))
    model = quadratic(scheduled)
    with pytest.raises(ValueError, match="`lowest` must be more than 0"):
        find_learning_rate(model, (X, X), lowest=2)
    with pytest.raises(ValueError, match="Call compile first"):
        find_learning_rate(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]), (X, X))


def classifier():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def weights_of(model):
    return [np.array(value) for value in (*model.variables, *model.optimizer.variables)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_never_finite_is_an_error_and_nothing_is_changed(value):
    model = classifier()
    model.optimizer.build(model.trainable_variables)
    before = weights_of(model)
    with pytest.raises(
        ValueError, match=r"^find_learning_rate: the loss of the first step must be finite\. Received: nan at"
    ):
        find_learning_rate(model, (np.full((16, 1), value), np.arange(16) % 2), steps=10)
    for now, then in zip(weights_of(model), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_loss_that_becomes_infinite_ends_the_run_there():
    model = quadratic(keras.optimizers.SGD(0.01))
    batches = [(np.ones((1, 1)), np.ones(1))] * 5 + [(np.full((1, 1), np.inf), np.ones(1))] * 7
    data = tf.data.Dataset.from_generator(lambda: batches, output_signature=(tf.TensorSpec((1, 1)), tf.TensorSpec(1)))
    curve = find_learning_rate(model, data, 1e-2, 1.0, steps=12)
    rates = np.geomspace(1e-2, 1.0, 12)
    np.testing.assert_allclose(curve.learning_rates, rates[:5])
    assert curve.suggestion == pytest.approx(rates[4] / 10)  # gradient descent on a parabola: each step is lower


def test_a_model_without_anything_to_train_is_refused():
    for freeze in (lambda model: setattr(model, "trainable", False), kc.freeze):
        model = classifier()
        freeze(model)
        model.compile("adam", "sparse_categorical_crossentropy")
        with pytest.raises(ValueError, match=r"`model` must have something to train\. Received: 'sequential"):
            find_learning_rate(model, (X, np.arange(64) % 2), steps=10)


@pytest.mark.slow
def test_a_loss_that_never_falls_has_no_suggestion(tmp_path):
    curve = find_learning_rate(classifier(), (np.zeros((32, 1)), np.zeros(32) + [0, 1] * 16), steps=10)
    assert len(curve.losses) == 10  # nothing to learn from zeros and as many of each class: log 2 for ever
    np.testing.assert_allclose(curve.losses, np.log(2), rtol=1e-5)
    with pytest.raises(
        ValueError, match=r"^LearningRateCurve: `suggestion` needs a loss that falls .* 10 losses from 0\.6931"
    ):
        curve.suggestion
    curve.plot(tmp_path / "flat.png")
    assert (tmp_path / "flat.png").exists()


def test_a_loss_that_diverges_at_once_has_no_suggestion():
    curve = find_learning_rate(
        quadratic(keras.optimizers.SGD(0.01)), (np.ones((16, 1)), np.ones(16)), 50, 100, steps=10
    )
    assert len(curve.losses) < 10
    with pytest.raises(ValueError, match="needs a loss that falls"):
        curve.suggestion


@pytest.mark.slow
def test_a_loss_below_zero_is_followed_to_the_end():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.set_weights([np.array([[1, 0.5], [-0.5, 1]]), np.zeros(2)])  # turns x by 27 degrees: the loss is -0.89
    model.compile("adam", "cosine_similarity")  # -1 is the best
    x = np.random.default_rng(1).normal(size=(64, 2))
    curve = find_learning_rate(model, (x, x), 1e-4, 1e-1, steps=20)
    assert len(curve.learning_rates) == 20 and curve.losses.min() < 0 and 1e-5 <= curve.suggestion <= 1e-2


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_data_without_a_batch_are_refused():
    empty = tf.data.Dataset.from_tensor_slices((X[:0], X[:0])).batch(8)
    with pytest.raises(ValueError, match=r"^find_learning_rate: `data` must have batches\."):
        find_learning_rate(quadratic(keras.optimizers.SGD(0.01)), empty, steps=10)


def test_rates_must_be_finite():
    with pytest.raises(ValueError, match="`highest` must be a finite number"):
        find_learning_rate(quadratic("sgd"), (X, X), highest=np.inf)
