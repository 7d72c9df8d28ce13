"""Batches of cached features: every example once per epoch, with copies and orders that depend on the seed alone."""

import numpy as np
import pytest

from pipelines.datasets.feature_batches import FeatureBatches, to_one_hot


def epoch(batches, number, step=0):
    """The features and targets of one epoch, starting at a step."""
    found = [(x.numpy(), y.numpy()) for x, y in batches(number, step)]
    return np.concatenate([x for x, _ in found])[:, 0], np.concatenate([y for _, y in found])


@pytest.fixture
def batches():
    # Copy 0 of example i is i, copy 1 is i + 100.
    copies = [np.arange(10, dtype="float16")[:, None], np.arange(100, 110, dtype="float16")[:, None]]
    return lambda seed=0: FeatureBatches(copies, to_one_hot(np.arange(10) % 3, 3), batch_size=4, seed=seed)


def test_each_epoch_holds_every_example_once_with_its_target(batches):
    dataset = batches()
    assert dataset.steps == 3 and [len(x) for x, _ in dataset()] == [4, 4, 2]
    for number in range(3):
        values, targets = epoch(dataset, number)
        assert sorted(values % 100) == list(range(10))
        np.testing.assert_array_equal(targets.argmax(1), values % 100 % 3)


def test_order_and_copies_change_with_the_epoch_and_depend_on_the_seed(batches):
    first, again, other = batches(), batches(), batches(seed=1)
    epochs = [epoch(first, number)[0] for number in range(20)]
    np.testing.assert_array_equal(epochs, [epoch(again, number)[0] for number in range(20)])
    assert not np.array_equal(epochs[0], epochs[1]) and not np.array_equal(epochs[0], epoch(other, 0)[0])
    # Some examples begin with copy 0, some with copy 1; then each alternates.
    shown = np.array([values[np.argsort(values % 100)] >= 100 for values in epochs])
    assert 0 < shown[0].sum() < 10 and (shown[1:] != shown[:-1]).all()


def test_feature_maps_of_three_copies_stay_with_their_example():
    maps = np.arange(3)[:, None, None, None] * 100 + np.arange(10)[:, None, None] + np.zeros((10, 2, 2))
    dataset = FeatureBatches(list(maps.astype("float16")), to_one_hot(np.arange(10) % 3, 3), batch_size=4, seed=0)
    seen = set()
    for number in range(8):
        for x, y in dataset(number):
            values = x.numpy()[:, 0, 0]
            assert x.shape[1:] == (2, 2) and (x.numpy() == values[:, None, None]).all()
            np.testing.assert_array_equal(y.numpy().argmax(1), values % 100 % 3)
            seen |= set(values // 100)
    assert seen == {0, 1, 2}


def test_an_epoch_can_start_at_any_step(batches):
    np.testing.assert_array_equal(epoch(batches(), 5, 1)[0], epoch(batches(), 5)[0][4:])


def test_classes_come_equally_often_or_weigh_the_same():
    # 8 examples of class 0 and 2 of class 1, which have the values 8 and 9.
    labels = np.array([0] * 8 + [1] * 2)
    features = np.arange(10, dtype="float16")[:, None]
    sampled = FeatureBatches([features], to_one_hot(labels, 2), 5, 0, "sampling")
    values, targets = epoch(sampled, 0)
    assert targets.sum(0).tolist() == [5, 5] and set(values[targets[:, 1] == 1]) == {8, 9}
    weighted = FeatureBatches([features], to_one_hot(labels, 2), 10, 0, "weights")
    ((x, _, weights),) = weighted(0)
    # 10 / (2 classes * 8 examples), and 10 / (2 * 2).
    assert {(int(v) >= 8, float(w)) for v, w in zip(x.numpy()[:, 0], weights.numpy(), strict=True)} == {
        (False, 0.625),
        (True, 2.5),
    }
