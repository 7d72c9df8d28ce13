"""Which of two networks is selected: the one that learned more only where validation images tell that it is better."""

import math

import numpy as np
import pytest

from pipelines.training.task import OneLabel, SeveralLabels


def answers(right, count):
    """Probabilities of two classes and the truth: `right` of `count` images are classified rightly."""
    targets = np.zeros(count, int)
    scores = np.full((count, 2), [0.2, 0.8])
    scores[:right] = [0.8, 0.2]
    return scores, targets


def test_the_standard_error_of_an_accuracy_is_that_of_a_binomial_share():
    # sqrt(p (1 - p) / n) with p = 300 / 400 is 0.02165; one right and one wrong more change the fourth digit.
    assert OneLabel(2).standard_error(*answers(300, 400)) == pytest.approx(math.sqrt(0.75 * 0.25 / 400), rel=2e-3)
    assert OneLabel(2).standard_error(*answers(14, 14)) == pytest.approx(math.sqrt(15 / 16 * 1 / 16 / 14))


def test_the_standard_error_of_a_ranking_by_chance_is_that_of_the_share_of_positives():
    # Where all scores are equal, average precision is the share of positives.
    targets = (np.arange(400) % 4 == 0).astype(int)[:, None]
    found = SeveralLabels(1).standard_error(np.full((400, 1), 0.5), targets)
    assert found == pytest.approx(math.sqrt(0.25 * 0.75 / 400), rel=4 * math.sqrt(1 / 200))


@pytest.mark.parametrize(("accuracy", "expected"), [(13 / 14, False), (14 / 14, False), (12 / 14, False)])
def test_one_more_image_of_14_tells_nothing(accuracy, expected):
    start = {"accuracy": 13 / 14, "loss": 0.3}
    assert OneLabel(2).clearly_better({"accuracy": accuracy, "loss": 0.1}, start, *answers(13, 14)) == expected


@pytest.mark.parametrize(("loss", "expected"), [(0.3, True), (math.inf, False), (math.nan, False)])
def test_nine_more_of_400_tell_something_unless_the_network_diverged(loss, expected):
    # The standard error is 0.0217 of 400: 8.7 images.
    start = {"accuracy": 300 / 400, "loss": 0.3}
    for more, clear in ((8, False), (9, True)):
        score = {"accuracy": (300 + more) / 400, "loss": loss}
        assert OneLabel(2).clearly_better(score, start, *answers(300, 400)) == (clear and expected)
