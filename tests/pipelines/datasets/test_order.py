"""The order of the examples: random, a function of seed and epoch, and balanced over the classes if asked for."""

import numpy as np
import tensorflow as tf

from pipelines.datasets import order


def test_orders_depend_on_seed_and_epoch_and_are_uncorrelated():
    orders = {(seed, epoch): order.shuffled(1000, seed, epoch).numpy() for seed in range(2) for epoch in range(10)}
    assert all((np.sort(indices) == np.arange(1000)).all() for indices in orders.values())
    np.testing.assert_array_equal(order.shuffled(1000, 1, 3), orders[1, 3])
    correlations = np.corrcoef(list(orders.values())) - np.eye(20)
    assert np.abs(correlations).max() < 5 / np.sqrt(1000)


def test_small_orders_are_all_equally_likely():
    run = tf.function(lambda: tf.map_fn(lambda epoch: order.shuffled(4, 0, epoch), tf.range(2400, dtype=tf.int64)))
    _, counts = np.unique(run(), axis=0, return_counts=True)
    assert len(counts) == 24
    assert ((counts - 100) ** 2 / 100).sum() < 50  # chi-squared, 23 degrees of freedom: 1 in 1,000


def test_balanced_sampling_gives_all_classes_equally_often():
    labels = np.repeat([0, 2, 5], [2, 7, 31])
    draw = order.balanced(labels)
    counts = np.array([np.bincount(draw(0, epoch).numpy(), minlength=40) for epoch in range(50)])
    by_class = np.stack([counts[:, labels == name].sum(1) for name in (0, 2, 5)], 1)
    np.testing.assert_array_equal(by_class, [[14, 13, 13]] * 50)
    assert (counts[:, :2] == 7).all()
    assert set(counts[:, 2:9].ravel()) == {1, 2} and set(counts[:, 9:].ravel()) == {0, 1}
    assert (counts[:, 9:].sum(0) > 5).all()  # 13 of 31 in each of 50 epochs: 21 times, with a deviation of 3.5
    orders = [draw(0, epoch).numpy() for epoch in range(2)]
    assert (orders[0] != orders[1]).any() and (labels[orders[0]] != labels[orders[1]]).any()


def test_class_weights_are_those_of_scikit_learn():
    # sklearn.utils.class_weight.compute_class_weight("balanced", ...) on these labels
    np.testing.assert_allclose(order.class_weights(np.array([0, 0, 0, 1, 3, 3]), 4), [2 / 3, 2, 0, 1])
