"""Which images judge each other in cross-validation."""

import numpy as np
import pytest

from pipelines.training.folds import assign_folds, teaches_all_classes


def test_classes_are_spread_evenly_as_far_as_their_sizes_divide():
    targets = np.repeat([0, 1, 2], [40, 9, 3])
    fold_of = assign_folds(targets, [str(image) for image in range(52)], folds=4)
    counts = np.array([np.bincount(fold_of[targets == number], minlength=4) for number in range(3)])
    assert (counts.max(1) - counts.min(1) <= 1).all() and counts.sum(1).tolist() == [40, 9, 3]
    assert np.ptp(np.bincount(fold_of)) <= 1


def test_a_class_is_spread_evenly_whatever_makes_a_fold_large():
    targets, units = np.repeat([0, 1], [8, 4]), [*["group"] * 4, *(str(image) for image in range(8))]
    fold_of = assign_folds(targets, units, folds=4)
    assert np.bincount(fold_of[targets == 1]).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("seed", range(3))
def test_images_of_a_unit_are_in_one_fold(seed):
    random = np.random.default_rng(seed)
    units, targets = random.integers(12, size=60).astype(str).tolist(), random.integers(2, size=60)
    fold_of = assign_folds(targets, units)
    assert all(len(set(fold_of[np.array(units) == unit])) == 1 for unit in set(units))
    assert set(fold_of) == {0, 1, 2, 3}


@pytest.mark.parametrize("seed", range(5))
def test_of_several_labels_the_rarest_is_spread(seed):
    targets = np.random.default_rng(seed).integers(2, size=(60, 8))
    targets[:, 3] = np.arange(60) < 4
    targets = np.random.default_rng(seed).permutation(targets)
    fold_of = assign_folds(targets, [str(image) for image in range(60)])
    assert np.bincount(fold_of[targets[:, 3] == 1]).tolist() == [1, 1, 1, 1]


def test_a_class_that_is_one_unit_cannot_be_judged():
    targets, units = np.repeat([0, 1, 2], 8), [str(image) for image in range(16)] + ["all"] * 8
    assert not teaches_all_classes(targets, assign_folds(targets, units))
    assert teaches_all_classes(targets, assign_folds(targets, [*units[:16], *["one"] * 4, *["other"] * 4]))


def test_sets_of_labels_are_spread_too():
    targets = np.array([[1, 0], [1, 1]] * 8)
    fold_of = assign_folds(targets, [str(image) for image in range(16)])
    assert [np.bincount(fold_of[kind::2]).tolist() for kind in (0, 1)] == [[2, 2, 2, 2]] * 2
