"""Batches for `model.fit` from activations that are kept in memory."""

from __future__ import annotations

import math

import keras
import numpy as np


class CachedBatches(keras.utils.PyDataset):
    """Shuffled batches of views of examples; each epoch holds every example once, in one of its views.

    Order and views are a pure function of the seed and the epoch.

    Args:
        views: Arrays of one shape `(examples, ...)`: row i of each shows example i.
        targets: `(examples,)` class numbers; given to `fit` as one-hot vectors, which label smoothing needs.
        batch_size: Examples a step; the last batch of an epoch may be smaller.
        classes: Number of classes.
        seed: An integer.
    """

    def __init__(self, views, targets, batch_size: int, classes: int, seed: int):
        super().__init__()
        self._views, self._targets = views, np.eye(classes, dtype="float32")[targets]
        self._batch_size, self._seed, self._epoch = batch_size, seed, 0
        self._shuffle()

    def __len__(self):
        return math.ceil(len(self._targets) / self._batch_size)

    def __getitem__(self, index):
        rows = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        activations = [self._views[view][row] for row, view in zip(rows, self._view[rows], strict=True)]
        return np.stack(activations).astype("float32"), self._targets[rows]

    def on_epoch_end(self):
        """Called by `fit`: the next epoch has its own order and views."""
        self._epoch += 1
        self._shuffle()

    def _shuffle(self):
        random = np.random.default_rng((self._seed, self._epoch))
        self._order = random.permutation(len(self._targets))
        self._view = random.integers(len(self._views), size=len(self._targets))
