"""Random numbers that are a pure function of a seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

MAX_DRAWS = 40  # enough for all operations at once, with ten of RandAugment


class Draws:
    """The random numbers of one example. Every call of a method but `noise` uses the next one.

    Args:
        seed: `(2,)` integers.
    """

    def __init__(self, seed: Any):
        self._seed = seed
        # All numbers come from one operation: a random operation costs more than the arithmetic on its result.
        self._numbers = iter(tf.unstack(tf.random.stateless_uniform([MAX_DRAWS], seed)))

    def uniform(self, low: Any = 0.0, high: Any = 1.0) -> tf.Tensor:
        """A number from `low` to `high`, uniformly distributed."""
        return low + (high - low) * next(self._numbers)

    def uniform_around(self, centre: float, max_distance: float) -> tf.Tensor:
        """A number at most `max_distance` from `centre`, uniformly distributed."""
        return self.uniform(centre - max_distance, centre + max_distance)

    def integer(self, count: Any) -> tf.Tensor:
        """An integer from 0 to `count` - 1; `count` may be a tensor."""
        return tf.minimum(tf.cast(next(self._numbers) * tf.cast(count, tf.float32), tf.int32), count - 1)

    def bernoulli(self, probability: float = 0.5) -> tf.Tensor:
        """True with this probability."""
        return next(self._numbers) < probability

    def noise(self, shape: Sequence[int], high: float) -> tf.Tensor:
        """An array of numbers from 0 to `high`; the same array in every call."""
        return tf.random.stateless_uniform(shape, tf.random.fold_in(self._seed, 0), 0.0, high)
