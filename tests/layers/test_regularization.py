"""StochasticDepth: identity where it must be, one decision an example, expectation kept."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_cnn import layers

RATE, COUNT = 0.3, 4000


def outputs(layer, x, training=True):
    return ops.convert_to_numpy(layer(x, training=training))


def test_identity_at_inference_and_for_rate_0():
    x = np.random.default_rng(0).normal(size=(4, 3, 3, 2)).astype("float32")
    np.testing.assert_array_equal(outputs(layers.StochasticDepth(0.9), x, training=False), x)
    np.testing.assert_array_equal(outputs(layers.StochasticDepth(0.0), x), x)


def test_whole_examples_are_dropped_or_scaled():
    x = np.random.default_rng(0).normal(size=(64, 3, 3, 2)).astype("float32")
    ratio = outputs(layers.StochasticDepth(RATE, seed=1), x) / x
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1, :1, :1], x.shape), rtol=1e-6)
    assert set(ratio[:, 0, 0, 0].round(5).tolist()) == {0, np.float32(1 / 0.7).round(5).item()}


def test_expectation_is_kept():
    """The mean of `COUNT` draws lies within 5 standard errors, sqrt(rate / (1 - rate) / COUNT), of 1."""
    mean = outputs(layers.StochasticDepth(RATE, seed=0), np.ones((COUNT, 1), "float32")).mean()
    assert abs(mean - 1) < 5 * np.sqrt(RATE / (1 - RATE) / COUNT)
    assert mean != 1


def test_a_seed_repeats_the_sequence_and_the_sequence_goes_on():
    x = np.ones((64, 1), "float32")
    first, second = (layers.StochasticDepth(0.5, seed=3) for _ in range(2))
    draws = [outputs(first, x) for _ in range(2)]
    np.testing.assert_array_equal(draws[0], outputs(second, x))
    assert (draws[0] != draws[1]).any()
    assert (draws[0] != outputs(layers.StochasticDepth(0.5, seed=4), x)).any()


def test_half_precision_keeps_the_rate():
    """A draw in bfloat16 has steps of 1 / 256: a rate of 0.001 would become 0 or 0.004."""
    kept = outputs(layers.StochasticDepth(0.001, seed=0, dtype="bfloat16"), np.ones((40000, 1))).astype("float32") > 0
    assert 15 < 40000 - kept.sum() < 75  # 40 expected, 6.3 standard deviation


def test_dropped_branches_pass_no_gradient():
    """d/dw of sum(branch(x)) for one weight w on every example: the number kept, scaled."""
    layer = layers.StochasticDepth(0.5, seed=5)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False), layer])
    before = model.get_weights()[0].item()
    model.compile(keras.optimizers.SGD(1.0), loss=lambda _, y: ops.sum(y), run_eagerly=True)
    x = np.ones((16, 1), "float32")
    model.train_on_batch(x, x)
    kept = (outputs(layers.StochasticDepth(0.5, seed=5), x) > 0).sum()
    assert 0 < kept < 16
    assert before - model.get_weights()[0].item() == pytest.approx(2 * kept, rel=1e-5)


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, "0.5"])
def test_errors(rate):
    remedy = " A branch that is always dropped can be left out of the network." if rate == 1 else ""
    with pytest.raises(ValueError) as error:
        layers.StochasticDepth(rate)
    assert str(error.value) == f"StochasticDepth: `rate` must be a number in [0, 1). Received: rate={rate!r}.{remedy}"
    with pytest.raises(ValueError, match="Received: rate=True"):
        layers.StochasticDepth(True)
