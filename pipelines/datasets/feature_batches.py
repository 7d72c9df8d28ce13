"""Batches for `model.fit` from activations that are kept."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from pipelines.datasets import order
from pipelines.datasets.image_batches import as_tensor, options


class CachedBatches:
    """Shuffled batches of views of examples; each epoch holds every example once, in one of its views.

    Of k views an example is shown each once in k epochs, beginning anywhere. Order and views are a pure function of seed and
    epoch. Called with an epoch and a step this gives the rest of that epoch,
    for `keras_cnn.training.ExactResume`.

    Args:
        views: Arrays of one shape `(examples, ...)`: row i of each shows example i.
        targets: `(examples, classes)`: float32, one-hot or multi-hot.
        batch_size: Examples a step; the last batch of an epoch may be smaller.
        seed: An integer.

    Attributes:
        steps: Batches an epoch.
    """

    def __init__(self, views, targets, batch_size: int, seed: int):
        self._views, self._targets = [as_tensor(view) for view in views], tf.constant(targets, tf.float32)
        self._batch_size, self._seed, self._examples = batch_size, seed, len(targets)
        self.steps = math.ceil(self._examples / batch_size)

    def __call__(self, epoch=0, step=0) -> tf.data.Dataset:
        """The batches of an epoch, from 0, from a step on; both may be int64 tensors."""
        epoch = tf.cast(epoch, tf.int64)
        rows = order.shuffled(self._examples, self._seed, epoch)
        first = tf.random.stateless_uniform([self._examples], [self._seed, 3], 0, len(self._views), tf.int32)
        views = (first + tf.cast(epoch, tf.int32)) % len(self._views)

        def batch(step):
            chosen = rows[step * self._batch_size : (step + 1) * self._batch_size]
            # No view is read for an example that is shown in another one.
            numbers, count = tf.gather(views, chosen), tf.size(chosen)
            places = tf.dynamic_partition(tf.range(count), numbers, len(self._views))
            parts = [tf.gather(view, tf.gather(chosen, place)) for view, place in zip(self._views, places, strict=True)]
            activations = tf.ensure_shape(tf.dynamic_stitch(places, parts), (None, *self._views[0].shape[1:]))
            return tf.cast(activations, tf.float32), tf.gather(self._targets, chosen)

        numbers = tf.data.Dataset.range(tf.cast(step, tf.int64), self.steps)
        return numbers.map(batch, num_parallel_calls=2, deterministic=True).prefetch(2).with_options(options())


def indicators(targets: np.ndarray, classes: int) -> np.ndarray:
    """Class numbers, or rows of 0 and 1, as float32 rows `(examples, classes)`, which label smoothing needs."""
    return np.eye(classes, dtype="float32")[targets] if targets.ndim == 1 else targets.astype("float32")
