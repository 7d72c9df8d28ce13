"""The temperature of probabilities."""

import numpy as np
import pytest
from scipy.special import softmax

from keras_cnn.training import calibration


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_that_scores_were_made_with(true):
    """Labels drawn from softmax(z), scores of softmax(true · z): dividing by `true` is right."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (20_000, 5))
    labels = (softmax(logits, 1).cumsum(1) > random.uniform(size=(20_000, 1))).argmax(1)
    found = calibration.temperature(softmax(true * logits, 1), labels)
    assert found == pytest.approx(true, rel=0.05)
    np.testing.assert_allclose(calibration.calibrated(softmax(true * logits, 1), true), softmax(logits, 1), atol=1e-12)


def test_a_handful_of_examples_changes_nothing():
    scores = np.full((49, 2), 0.5)
    assert calibration.temperature(scores, np.zeros(49, int)) == 1
    assert calibration.calibrated(scores, 1.0) is scores


def test_scores_that_are_sure_and_right_stay_within_the_range():
    scores = np.tile([1.0, 0.0], (60, 1))
    assert 0.04 < calibration.temperature(scores, np.zeros(60, int)) < 20


def test_shapes_are_checked():
    with pytest.raises(
        ValueError, match=r"^temperature: `scores` must be \(examples, classes\), with a label for each"
    ):
        calibration.temperature(np.ones((3, 2)), np.zeros(4, int))
