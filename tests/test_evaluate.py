"""Measures of quality, against published examples and sums done by hand."""

import numpy as np
import pytest

from pipelines.evaluation.multi_label import MultiLabelEvaluation
from pipelines.evaluation.single_label import Evaluation, wilson_interval


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
    assert worst == [(1, 0), (3, 0)]


@pytest.fixture
def several():
    # Of four examples, given: a, a b, nothing, b c. True: a, b, nothing, a b. Nobody has c.
    scores = np.array([[0.9, 0.2, 0.1], [0.6, 0.8, 0.0], [0.4, 0.3, 0.2], [0.45, 0.5, 0.99]])
    return MultiLabelEvaluation(scores, np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 1, 0]]), ("a", "b", "c"))


def test_several_labels_by_hand(several):
    assert several.accuracy == 2 / 4 and several.wrong == 3
    assert several.interval == wilson_interval(2, 4)
    # a: true ones at places 1 and 3 of four, (1 + 2/3) / 2; b: at 1 and 2.
    assert several.mean_average_precision == pytest.approx((5 / 6 + 1) / 2)
    assert several.by_class() == [
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


def test_the_surest_wrong_decision_comes_first(several):
    # c of the last for 0.99, a of the second for 0.6, a of the last against 0.45; and never the label of probability 1/2.
    assert several.worst_mistakes() == [(3, 2), (1, 0), (3, 0)]
    assert several.worst_mistakes(1) == [(3, 2)]
    assert [several.truth(position) for position in range(4)] == ["a", "b", "none of them", "a, b"]


def test_where_no_example_has_a_label_nothing_can_be_ranked():
    found = MultiLabelEvaluation(np.full((3, 2), 0.1), np.zeros((3, 2), int), ("a", "b"))
    assert found.mean_average_precision is None and found.accuracy == 1
