"""Batches for `model.fit` from cached features."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_cnn.autograph import without_autograph
from pipelines.datasets import order
from pipelines.datasets.image_batches import as_tensor, dataset_options


class FeatureBatches:
    """Shuffled batches of cached features, of several augmented copies of each example.

    Each epoch has every example once, in one of its copies. In k epochs an example comes once in each of its k copies; with
    which copy it begins is random. Order and copies are pure functions of seed and epoch. A call with an epoch and a step
    gives the rest of that epoch, for `keras_cnn.training.ExactResume`.

    Args:
        copies: One array of features `(examples, ...)` per copy, all of one shape: row i belongs to example i.
        targets: `(examples, classes)`: float32, one-hot or multi-hot.
        batch_size: Examples per step; the last batch of an epoch may be smaller.
        seed: An integer.
        balance: As in `pipelines.datasets.image_batches.ImageBatches`.

    Attributes:
        steps: Number of batches per epoch.
    """

    def __init__(
        self,
        copies: Sequence[np.ndarray],
        targets: np.ndarray,
        batch_size: int,
        seed: int,
        balance: str | None = None,
    ):
        self._copies = [as_tensor(features) for features in copies]
        self._order = order.order_of(targets, seed, balance=balance)
        self._weights = order.example_weights(targets) if balance == "weights" else None
        self._targets = tf.constant(targets, tf.float32)
        self._batch_size, self._seed, self._examples = batch_size, seed, len(targets)
        self.steps = math.ceil(self._examples / batch_size)

    def __call__(self, epoch: int | tf.Tensor = 0, step: int | tf.Tensor = 0) -> tf.data.Dataset:
        """The batches of an epoch, counted from 0, starting at a step; both may be int64 tensors."""
        epoch = tf.cast(epoch, tf.int64)
        examples = self._order(epoch)
        first_copy = tf.random.stateless_uniform([self._examples], [self._seed, 3], 0, len(self._copies), tf.int32)
        copy_of = (first_copy + tf.cast(epoch, tf.int32)) % len(self._copies)

        @without_autograph
        def batch(step: tf.Tensor) -> tuple[tf.Tensor, ...]:
            chosen = examples[step * self._batch_size : (step + 1) * self._batch_size]
            # Each example is read from one copy only: the batch is divided by copy, read, and put together again.
            copy_numbers, count = tf.gather(copy_of, chosen), tf.size(chosen)
            indices = tf.dynamic_partition(tf.range(count), copy_numbers, len(self._copies))
            parts = [
                tf.gather(copy, tf.gather(chosen, index)) for copy, index in zip(self._copies, indices, strict=True)
            ]
            features = tf.ensure_shape(tf.dynamic_stitch(indices, parts), (None, *self._copies[0].shape[1:]))
            found = tf.cast(features, tf.float32), tf.gather(self._targets, chosen)
            return found if self._weights is None else (*found, tf.gather(self._weights, chosen))

        steps = tf.data.Dataset.range(tf.cast(step, tf.int64), self.steps)
        return steps.map(batch, num_parallel_calls=2, deterministic=True).prefetch(2).with_options(dataset_options())


def to_one_hot(targets: np.ndarray, classes: int) -> np.ndarray:
    """Float32 targets `(examples, classes)` from class numbers `(examples,)`; targets of 0 and 1 per class stay the same."""
    return np.eye(classes, dtype="float32")[targets] if targets.ndim == 1 else targets.astype("float32")
