"""Which example comes when: pure functions of (seed, epoch), in TensorFlow operations.

Not in Python: inside a `tf.data` pipeline it can keep a process from ending. Not with TensorFlow's `index_shuffle`: its
permutations for one epoch and the next are alike (of 10 examples they correlate by 0.8, of 1,000 by 0.1).
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_cnn import arguments


def shuffled(count: int, seed: int, epoch):
    """Each of `count` rows once; all orders are equally likely."""
    seed = tf.random.fold_in(tf.constant([seed, 1], tf.int64), epoch)
    return tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), seed)


def balanced(labels: np.ndarray):
    """As many rows as there are labels, but equally many of each class, as nearly as that comes out even.

    Of a class with fewer rows than its share each comes equally often (as nearly); of one with more some come, in each
    epoch others.

    Args:
        labels: `(rows,)`, class numbers.

    Returns:
        A function of (seed, epoch) to the rows of that epoch.
    """
    _, numbers, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    shares = len(labels) // len(sizes) + (np.arange(len(sizes)) < len(labels) % len(sizes))
    rounds = -(-shares // sizes)
    # Every row once for each round of its class. Sorted by class, round and chance, the classes lie one behind the other,
    # and the first ones of each are taken.
    copies = rounds[numbers]
    rows = np.repeat(np.arange(len(labels)), copies)
    turn = np.arange(len(rows)) - np.repeat(np.cumsum(copies) - copies, copies)
    rank = tf.constant(numbers[rows] * rounds.max() + turn, tf.float64)
    first = np.cumsum(sizes * rounds) - sizes * rounds
    taken = np.concatenate([start + np.arange(share) for start, share in zip(first, shares, strict=True)])

    def rows_of(seed, epoch):
        chance = tf.random.stateless_uniform(rank.shape, tf.random.fold_in([seed, 2], epoch), dtype=tf.float64)
        chosen = tf.gather(rows, tf.gather(tf.argsort(rank + chance), taken))
        return tf.gather(chosen, shuffled(len(labels), seed, epoch))

    return rows_of


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Weights that make all classes count the same in a mean over rows: rows / (classes with rows * rows of the class).

    Returns:
        Float32 `(classes,)`; 0 for a class without rows. The mean over all rows is 1.
    """
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0.0).astype("float32")


def labels_of(targets: np.ndarray) -> np.ndarray:
    """The class number of each row of targets: class numbers themselves, or one-hot rows.

    Raises:
        ValueError: If a row has several classes, or none.
    """
    if targets.ndim == 1:
        return targets
    several = np.flatnonzero((np.count_nonzero(targets, axis=1) != 1) | (targets.max(axis=1) != 1))
    if len(several):
        row = targets[several[0]]
        remedy = "Classes can be balanced where each example has one; pass balance=None."
        raise ValueError(arguments.message("Batches", "targets", "one-hot where `balance` is given", row, remedy))
    return targets.argmax(axis=1)
