"""In which order the examples of an epoch come: pure functions of (seed, epoch), in TensorFlow operations.

Not in Python: inside a `tf.data` pipeline it can keep a process from ending. Not with TensorFlow's `index_shuffle`: its
permutations of successive epochs are alike (of 10 examples they correlate by 0.8, of 1,000 by 0.1).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_cnn import arguments


def order_of(
    targets: np.ndarray, seed: int, shuffle: bool = True, balance: str | None = None
) -> Callable[[int | tf.Tensor], tf.Tensor]:
    """A function of the epoch that gives the indices of the examples in the order in which they come.

    Args:
        targets: Class numbers, or one-hot targets, of the examples.
        seed: An integer of at least 0.
        shuffle: Whether the order changes with each epoch.
        balance: "sampling": every class comes equally often, instead of every example once.
    """
    count = len(targets)
    if balance == "sampling":
        indices = balanced(labels_of(targets))
        return lambda epoch: indices(seed, epoch)
    if shuffle:
        return lambda epoch: shuffled(count, seed, epoch)
    return lambda epoch: tf.range(count, dtype=tf.int64)


def shuffled(count: int, seed: int, epoch: int | tf.Tensor) -> tf.Tensor:
    """The indices 0 to `count` - 1 in random order; all orders are equally likely."""
    seed = tf.random.fold_in(tf.constant([seed, 1], tf.int64), epoch)
    return tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), seed)


def balanced(labels: np.ndarray) -> Callable[[int, int | tf.Tensor], tf.Tensor]:
    """As many indices as there are examples, with the same number from each class, as nearly as the numbers divide.

    The examples of a class that is smaller than its share come several times, equally often as nearly as possible. Of a
    larger class only some examples come, different ones in each epoch.

    Args:
        labels: `(examples,)`, class numbers.

    Returns:
        A function of (seed, epoch) that gives the indices of that epoch.
    """
    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    shares = len(labels) // len(sizes) + (np.arange(len(sizes)) < len(labels) % len(sizes))
    rounds = -(-shares // sizes)  # how often each example of a class comes, rounded up
    # Every example is repeated once for each round of its class. Then they are sorted by class, by round and at random: each
    # class is one run of indices, and the first ones of each run are taken.
    repeats = rounds[classes]
    indices = np.repeat(np.arange(len(labels)), repeats)
    round_number = np.arange(len(indices)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    rank = tf.constant(classes[indices] * rounds.max() + round_number, tf.float64)
    starts = np.cumsum(sizes * rounds) - sizes * rounds
    taken = np.concatenate([start + np.arange(share) for start, share in zip(starts, shares, strict=True)])

    def indices_of_epoch(seed: int, epoch: int | tf.Tensor) -> tf.Tensor:
        noise = tf.random.stateless_uniform(rank.shape, tf.random.fold_in([seed, 2], epoch), dtype=tf.float64)
        chosen = tf.gather(indices, tf.gather(tf.argsort(rank + noise), taken))
        return tf.gather(chosen, shuffled(len(labels), seed, epoch))

    return indices_of_epoch


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Weights with which all classes count the same in a mean over examples.

    The weight of a class is examples / (classes with examples * examples of the class). The mean over all examples is 1.

    Returns:
        Float32 `(classes,)`; 0 for a class without examples.
    """
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0.0).astype("float32")


def example_weights(targets: np.ndarray) -> tf.Tensor:
    """The weight of each example from its class, float32 `(examples,)`, for one-hot targets."""
    labels = labels_of(targets)
    return tf.constant(class_weights(labels, targets.shape[1])[labels])


def labels_of(targets: np.ndarray) -> np.ndarray:
    """The class number of each example, from class numbers or from one-hot targets.

    Raises:
        ValueError: If an example has several classes, or none.
    """
    if targets.ndim == 1:
        return targets
    not_one_hot = np.flatnonzero((np.count_nonzero(targets, axis=1) != 1) | (targets.max(axis=1) != 1))
    if len(not_one_hot):
        received = targets[not_one_hot[0]]
        remedy = "Classes can be balanced if each example has exactly one; pass balance=None."
        raise ValueError(
            arguments.message("ImageBatches", "targets", "one-hot where `balance` is given", received, remedy)
        )
    return targets.argmax(axis=1)
