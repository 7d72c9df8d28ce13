"""SqueezeExcite: eqs. 2 to 4 of the paper in NumPy, the paper's parameter count, errors."""

import numpy as np
import pytest
from keras import ops

from keras_cnn import layers


@pytest.mark.parametrize("shape", [(2, 5, 8), (2, 4, 3, 8), (2, 3, 2, 4, 8)])
def test_equals_the_equations_of_the_paper(shape):
    layer = layers.SqueezeExcite(ratio=4)
    layer.build(shape)
    numbers = np.random.default_rng(0)
    x = numbers.normal(size=shape).astype("float32")
    weights = [numbers.normal(size=w.shape).astype("float32") for w in layer.weights]
    layer.set_weights(weights)
    w1, b1, w2, b2 = weights
    z = x.mean(tuple(range(1, x.ndim - 1)))
    s = 1 / (1 + np.exp(-(np.maximum(z @ w1 + b1, 0) @ w2 + b2)))
    expected = x * s.reshape(len(x), *[1] * (x.ndim - 2), -1)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)


def test_parameters_of_se_resnet_50():
    """Section 6.4: 2 / r * sum(N_s * C_s^2), about 2.5 million for r = 16, biases left out."""
    stages = ((3, 256), (4, 512), (6, 1024), (3, 2048))
    count = 0
    for blocks, channels in stages:
        layer = layers.SqueezeExcite()
        layer.build((None, 1, 1, channels))
        count += blocks * sum(int(np.prod(w.shape)) for w in layer.weights if len(w.shape) == 2)
    assert count == 2 * sum(n * c * c for n, c in stages) // 16
    assert 2.4e6 < count < 2.6e6


def test_a_bottleneck_has_at_least_one_unit():
    layer = layers.SqueezeExcite(ratio=16)
    layer.build((None, 4, 4, 6))
    assert [tuple(w.shape) for w in layer.weights] == [(6, 1), (1,), (1, 6), (6,)]


def test_activations_are_used():
    layer = layers.SqueezeExcite(ratio=1, activation="linear", gate_activation="linear")
    layer.build((None, 2, 2, 1))
    layer.set_weights([np.full((1, 1), 2), np.zeros(1), np.full((1, 1), -3), np.ones(1)])
    x = np.array([1, 2, 3, 2], "float32").reshape(1, 2, 2, 1)  # mean 2: gate 2 * 2 * -3 + 1 = -11
    assert ops.convert_to_numpy(layer(x)).ravel().tolist() == [-11, -22, -33, -22]


@pytest.mark.parametrize("ratio", [0, 0.25, True])
def test_errors(ratio):
    with pytest.raises(ValueError) as error:
        layers.SqueezeExcite(ratio)
    assert str(error.value) == (f"SqueezeExcite: `ratio` must be an integer of at least 1. Received: ratio={ratio!r}.")


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_an_unknown_number_of_channels_is_named(data_format):
    shape = (4, 5, None) if data_format == "channels_last" else (None, 4, 5)
    with pytest.raises(ValueError) as error:
        layers.SqueezeExcite(data_format=data_format).build((None, *shape))
    assert str(error.value) == (
        f"SqueezeExcite: the channel axis of the input must be known. Received: input_shape={(None, *shape)}. "
        "Name the number of channels in keras.Input."
    )
