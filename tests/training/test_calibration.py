"""Temperature scaling: the fitted temperature is the one that the probabilities were made with."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from keras_cnn.training import calibration


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_that_probabilities_were_made_with(true):
    """Labels drawn from softmax(z), probabilities softmax(true · z): the temperature is `true`."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (20_000, 5))
    labels = (softmax(logits, 1).cumsum(1) > random.uniform(size=(20_000, 1))).argmax(1)
    found = calibration.fit_temperature(softmax(true * logits, 1), labels)
    assert found == pytest.approx(true, rel=0.05)
    np.testing.assert_allclose(calibration.calibrated(softmax(true * logits, 1), true), softmax(logits, 1), atol=1e-12)


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_of_independent_probabilities(true):
    """0 and 1 drawn by sigmoid(z), probabilities sigmoid(true · z): the temperature is `true`."""
    random = np.random.default_rng(0)
    logits = random.normal(-1, 2, (20_000, 3))
    labels = (random.uniform(size=logits.shape) < expit(logits)).astype(int)
    assert calibration.fit_temperature(expit(true * logits), labels) == pytest.approx(true, rel=0.05)
    calibrated = calibration.calibrated(expit(true * logits), true, independent=True)
    np.testing.assert_allclose(calibrated, expit(logits), atol=1e-6)


def test_independent_probabilities_of_zero_and_one_stay_finite():
    probabilities = np.tile(np.float32([1.0, 0.0, 0.5]), (60, 1))
    wrong = np.tile([0, 1, 1], (60, 1))
    assert 10 < calibration.fit_temperature(probabilities, wrong) <= 20
    found = calibration.calibrated(probabilities, 2.0, independent=True)
    assert np.isfinite(found).all() and found[0, 0] > 0.999 and found[0, 1] < 1e-3 and found[0, 2] == 0.5


def test_fewer_than_fifty_examples_change_nothing():
    probabilities = np.full((49, 2), 0.5)
    assert calibration.fit_temperature(probabilities, np.zeros(49, int)) == 1
    assert calibration.calibrated(probabilities, 1.0) is probabilities


def test_confident_correct_probabilities_stay_within_the_range():
    probabilities = np.tile([1.0, 0.0], (60, 1))
    assert 0.04 < calibration.fit_temperature(probabilities, np.zeros(60, int)) < 20


def test_shapes_are_checked():
    with pytest.raises(
        ValueError, match=r"^fit_temperature: `probabilities` must be \(examples, classes\), with one label per example"
    ):
        calibration.fit_temperature(np.ones((3, 2)), np.zeros(4, int))
