"""The shift of the logits where classes are uneven."""

import numpy as np
import pytest

from pipelines.training.class_prior import adjust, choose_adjustment, is_uneven, shift


def gaussians(count, share, seed=0):
    """Two classes, N(-1, 1) and N(1, 1) on a line, and the probabilities that Bayes' rule gives them; `share` of the second."""
    random = np.random.default_rng(seed)
    targets = (random.uniform(size=count) < share).astype(int)
    x = random.normal(2 * targets - 1)
    odds = share / (1 - share) * np.exp(2 * x)
    return np.stack([1 / (1 + odds), odds / (1 + odds)], 1), targets, x


def test_a_whole_shift_answers_as_if_both_classes_were_equally_frequent():
    """By hand: with equal classes Bayes' rule decides by the sign of x."""
    probabilities, _, x = gaussians(2_000, 0.05)
    adjusted = adjust(probabilities, shift(1.0, np.array([1_900, 100])))
    np.testing.assert_array_equal(adjusted.argmax(1), (x > 0).astype(int))


@pytest.mark.parametrize(("missing", "expected"), [(2.5, 0.75), (0.0, 0.125)])
def test_a_class_whose_logit_is_too_low_gets_it_back(missing, expected):
    """log(95 / 5) = 2.94, and 0.75 · 2.94 = 2.2; with the right logits a large shift would cost too much accuracy."""
    probabilities, targets, _ = gaussians(3_000, 0.05)
    found = choose_adjustment(adjust(probabilities, np.float32([0, -missing])), targets, np.array([2_850, 150]))
    assert found.tau == pytest.approx(expected, abs=0.25)
    assert found.balanced_accuracy[1] > found.balanced_accuracy[0] + 0.1 or not missing


def test_the_probabilities_are_those_of_shifted_logits():
    logits, bias = np.random.default_rng(0).normal(size=(5, 3)), np.float32([1, 0, -2])
    exponentials = np.exp(logits)
    expected = np.exp(logits + bias)
    found = adjust(exponentials / exponentials.sum(1, keepdims=True), bias)
    np.testing.assert_allclose(found, expected / expected.sum(1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_accuracy_falls_by_less_than_its_standard_error(seed):
    probabilities, targets, _ = gaussians(400, 0.1, seed)
    before, after = choose_adjustment(probabilities, targets, np.array([360, 40])).accuracy
    assert before - after < np.sqrt(before * (1 - before) / 400)


def test_chance_moves_nothing():
    random = np.random.default_rng(0)
    shifts = []
    for seed in range(20):
        targets = (np.random.default_rng(seed).uniform(size=40) < 0.1).astype(int)
        noise = random.uniform(0.7, 1, 40)
        shifts.append(choose_adjustment(np.stack([noise, 1 - noise], 1), targets, np.array([36, 4])).tau)
    assert sum(shift > 0 for shift in shifts) <= 2


def test_five_to_one_is_not_uneven():
    assert [is_uneven(np.array(counts)) for counts in ([50, 10], [51, 10], [7, 0])] == [False, True, True]
