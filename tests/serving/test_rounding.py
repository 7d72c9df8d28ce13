"""What float32 rounds passes, another network does not: by logits, on a model whose probabilities are known by hand."""

import io
import math

import keras
import numpy as np
import pytest
from helpers.serving_cases import in_this_process
from PIL import Image

import keras_cnn as kc
from keras_cnn import serving
from keras_cnn.serving import examples, verification
from keras_cnn.serving.fresh_process import compare, largest_logit

SIDE = 8


def softmax(logits):
    powers = np.exp(logits - np.max(logits, -1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit))


@pytest.mark.parametrize(
    ("expected", "found", "logit"),
    [
        # 0.5 * 0.5 and 0.1 * 0.9, each and a thousandth.
        ([0.5, 0.5], [0.5002, 0.4998], 2e-4 / 0.251),
        ([0.9, 0.1], [0.9001, 0.0999], 1e-4 / 0.091),
        # 1 - p of float32 is off by 6e-8, which is no difference of a logit.
        ([1 - 6e-8, 0.0], [1.0, 6e-8], 6e-8 / 1e-3),
    ],
)
def test_a_logit_moves_its_probability_by_p_times_one_minus_p(expected, found, logit):
    ((difference, logit_difference),) = compare(np.array([found]), np.array([expected]))
    assert difference == pytest.approx(np.abs(np.subtract(found, expected)).max())
    assert logit_difference == pytest.approx(logit, rel=1e-3)


def test_the_difference_of_logits_is_that_of_the_inputs_of_the_softmax():
    inputs = np.random.default_rng(0).normal(size=(50, 20)) * 2
    error = np.random.default_rng(1).uniform(-1, 1, inputs.shape) * 1e-4
    found = np.array(compare(softmax(inputs + error), softmax(inputs)))[:, 1]
    assert (found <= 2e-4).all() and (found > 0.5e-4).all()
    one = np.eye(20)[0] * 1e-4
    found = np.array(compare(softmax(inputs + one), softmax(inputs)))[:, 1]
    known = softmax(inputs)[:, 0] > 0.05
    np.testing.assert_allclose(found[known], 1e-4, rtol=0.03)


def test_the_largest_logit_is_that_of_a_sigmoid_and_the_range_of_a_softmax():
    inputs = np.array([[0.0, 3.0, -4.0], [0.0, -50.0, 30.0]])
    no_image = np.zeros((1, 3))
    # exp(-50) against exp(30) + exp(0).
    assert largest_logit(np.vstack([softmax(inputs), no_image]).astype("float32")) == pytest.approx(80, rel=1e-3)
    assert largest_logit(softmax(inputs[:1]).astype("float32")) == pytest.approx(7 + math.log1p(math.exp(-3)), rel=1e-5)
    assert largest_logit(np.array([[sigmoid(-3)], [sigmoid(5)]], "float32")) == pytest.approx(5, rel=1e-4)
    assert largest_logit(no_image.astype("float32")) == 0


def test_the_limit_is_a_share_of_the_largest_logit():
    assert verification.float32_limit(0.3) == 1e-4
    assert verification.float32_limit(80) == pytest.approx(8e-3)


def test_float32_rounds_sums_by_less():
    kernel = np.random.default_rng(0).normal(size=(1280, 2)) * 2
    features = np.random.default_rng(1).uniform(0, 1, (200, 1280))
    exact, rounded = features @ kernel, features.astype("float32")[:, ::-1] @ kernel.astype("float32")[::-1]
    pairs = compare(softmax(rounded).astype("float32"), softmax(exact).astype("float32"))
    limit = verification.float32_limit(largest_logit(softmax(exact).astype("float32")))
    assert np.max(pairs, axis=0)[1] < limit / 2


# The networks separate dark from bright by the mean m of all pixels and channels, from 0 to 1: the logit is 40 (m - 0.5).
NETWORKS = {
    "right": {},
    "a weight of the convolution changed by 1 %": {"red": 1.01 / 3},
    "a bias changed": {"bias": 0.08},
}


def network(red=1 / 3, bias=0.0):
    inputs = keras.Input((SIDE, SIDE, 3))
    maps = keras.layers.Conv2D(1, 1, name="conv")(keras.layers.Rescaling(1 / 255)(inputs))
    outputs = keras.layers.Dense(2, "softmax", name="dense")(keras.layers.GlobalAveragePooling2D()(maps))
    model = keras.Model(inputs, outputs)
    model.get_layer("conv").set_weights([np.reshape([red, 1 / 3, 1 / 3], (1, 1, 3, 1)), np.zeros(1)])
    model.get_layer("dense").set_weights([np.array([[0.0, 40.0]]), np.array([0.0, bias - 20.0])])
    return model


def columns(levels):
    """A square image of gray columns, as a file."""
    buffer = io.BytesIO()
    Image.fromarray(np.tile(np.array(levels, "uint8"), (len(levels), 1))).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "_run", in_this_process)
        return {name: kc.export(network(**NETWORKS[name]), folder / name, ["dark", "bright"]) for name in NETWORKS}


@pytest.fixture
def compared(versions, monkeypatch):
    """Function that compares a version with the logit that the right network has for an image."""
    monkeypatch.setattr(verification, "_run", in_this_process)

    def compare_with(name, content, logit):
        example = examples.Example(content, np.array([sigmoid(-logit), sigmoid(logit)], "float32"))
        given = verification.Examples([example], ["a.png"], np.full((1, 2), np.nan))
        return verification.compare(versions[name], given)

    return compare_with


# Logits of -8.08, 0.078 and 8.08: probabilities of 0.0003, 0.52 and 0.9997.
# There a bias off by 0.08 moves a probability by 0.000026, 0.02 and 0.000023: logits show what probabilities hide.
@pytest.mark.slow
@pytest.mark.parametrize("level", [76, 128, 179])
def test_another_network_is_refused_whatever_its_probabilities_are(level, compared):
    content, logit = columns([level] * SIDE), 40 * (level / 255 - 0.5)
    for error in (0.0, 5e-5, -5e-5):
        assert compared("right", content, logit + error).largest_difference < 2e-5
    for name in set(NETWORKS) - {"right"}:
        with pytest.raises(
            serving.VerificationError, match=r"must give the logits of the model within .*most for a\.png \(0\.0"
        ):
            compared(name, content, logit)


@pytest.mark.slow
def test_another_way_to_resize_is_refused(compared):
    """Four columns become one. Without antialiasing it is the mean of the middle two, which are white: m is 1.

    The triangle has weights 0.5, 1.5, 2.5, 3.5, 3.5, 2.5, 1.5, 0.5 over eight columns, the outer two and the middle two
    white: 0.5. At the edges it is cut off two columns earlier: (3.5 + 3.5 + 0.5) / 14.
    """
    stripes = columns([0, 255, 255, 0] * SIDE)
    compared("right", stripes, 40 * ((6 * 0.5 + 2 * 7.5 / 14) / 8 - 0.5))
    with pytest.raises(serving.VerificationError, match=r"must give the logits of the model within"):
        compared("right", stripes, 40 * (1 - 0.5))
