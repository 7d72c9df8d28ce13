"""Measures of quality, against published examples and sums done by hand."""

import numpy as np
import pytest

from pipelines.evaluate import Evaluation, wilson_interval


@pytest.mark.parametrize(
    ("right", "examples", "interval"),
    # Newcombe, 1998, Statistics in Medicine 17:857-872, table I, method 3.
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_wilson_interval_as_published(right, examples, interval):
    assert wilson_interval(right, examples) == pytest.approx(interval, abs=5e-5)


@pytest.fixture
def evaluation():
    # Truth a a a b b; predicted a a b b b; c never occurs and is never named.
    scores = np.array([[0.9, 0.1, 0], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.4, 0.6, 0]])
    return Evaluation(scores, np.array([0, 0, 0, 1, 1]), ("a", "b", "c"))


def test_by_hand(evaluation):
    assert evaluation.accuracy == pytest.approx(4 / 5)
    np.testing.assert_array_equal(evaluation.confusion(), [[2, 1, 0], [0, 2, 0], [0, 0, 0]])
    assert evaluation.by_class() == [
        {"class": "a", "images": 3, "recall": pytest.approx(2 / 3), "precision": 1.0},
        {"class": "b", "images": 2, "recall": 1.0, "precision": pytest.approx(2 / 3)},
        {"class": "c", "images": 0, "recall": None, "precision": None},
    ]


def test_the_surest_mistake_comes_first():
    scores = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.8, 0.2]])
    worst = Evaluation(scores, np.array([1, 1, 1, 1]), ("a", "b")).worst_mistakes(2)
    assert list(worst) == [1, 3]
