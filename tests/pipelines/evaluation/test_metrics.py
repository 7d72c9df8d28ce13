"""Metrics, against published examples and calculations by hand."""

import numpy as np
import pytest

from pipelines.evaluation.multi_label import MultiLabelEvaluation
from pipelines.evaluation.single_label import SingleLabelEvaluation, wilson_interval


@pytest.mark.parametrize(
    ("successes", "examples", "interval"),
    # Newcombe, 1998, Statistics in Medicine 17:857-872, table I, method 3.
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_wilson_interval_as_published(successes, examples, interval):
    assert wilson_interval(successes, examples) == pytest.approx(interval, abs=5e-5)


@pytest.fixture
def evaluation():
    # True classes a a a b b; predicted a a b b b; no example has c, and none is predicted as c.
    probabilities = np.array([[0.9, 0.1, 0], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.4, 0.6, 0]])
    return SingleLabelEvaluation(probabilities, np.array([0, 0, 0, 1, 1]), ("a", "b", "c"))


def test_metrics_by_hand(evaluation):
    assert evaluation.accuracy == pytest.approx(4 / 5)
    np.testing.assert_array_equal(evaluation.confusion_matrix(), [[2, 1, 0], [0, 2, 0], [0, 0, 0]])
    assert evaluation.by_class() == [
        {"class": "a", "images": 3, "recall": pytest.approx(2 / 3), "precision": 1.0},
        {"class": "b", "images": 2, "recall": 1.0, "precision": pytest.approx(2 / 3)},
        {"class": "c", "images": 0, "recall": None, "precision": None},
    ]


def test_the_most_confident_error_comes_first():
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.8, 0.2]])
    evaluation = SingleLabelEvaluation(probabilities, np.array([1, 1, 1, 1]), ("a", "b"))
    assert evaluation.num_errors == 3 and evaluation.most_confident_errors(2) == [(1, 0), (3, 0)]


@pytest.fixture
def multi_label():
    # Predicted for four examples: a; a b; none; b c. True: a; b; none; a b. No example has c.
    probabilities = np.array([[0.9, 0.2, 0.1], [0.6, 0.8, 0.0], [0.4, 0.3, 0.2], [0.45, 0.5, 0.99]])
    return MultiLabelEvaluation(probabilities, np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 1, 0]]), ("a", "b", "c"))


def test_multi_label_metrics_by_hand(multi_label):
    assert multi_label.accuracy == 2 / 4 and multi_label.num_errors == 3
    assert multi_label.interval == wilson_interval(2, 4)
    # a: its two examples rank 1 and 3 of four, (1 + 2/3) / 2; b: 1 and 2.
    assert multi_label.mean_average_precision == pytest.approx((5 / 6 + 1) / 2)
    assert multi_label.by_class() == [
        {
            "class": "a",
            "images": 2,
            "average_precision": pytest.approx(5 / 6),
            "recall": 0.5,
            "precision": 0.5,
            "f1": 0.5,
        },
        {"class": "b", "images": 2, "average_precision": 1.0, "recall": 1.0, "precision": 1.0, "f1": 1.0},
        {"class": "c", "images": 0, "average_precision": None, "recall": None, "precision": 0.0, "f1": 0.0},
    ]


def test_the_most_confident_wrong_label_comes_first(multi_label):
    # c of the last (0.99), a of the second (0.6), and a of the last, which is missed (0.45). b of the last (0.5) is correct.
    assert multi_label.most_confident_errors() == [(3, 2), (1, 0), (3, 0)]
    assert multi_label.most_confident_errors(1) == [(3, 2)]
    assert [multi_label.true_label(index) for index in range(4)] == ["a", "b", "none of them", "a, b"]


def test_without_labels_there_is_no_average_precision():
    found = MultiLabelEvaluation(np.full((3, 2), 0.1), np.zeros((3, 2), int), ("a", "b"))
    assert found.mean_average_precision is None and found.accuracy == 1
