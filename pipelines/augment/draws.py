"""Random numbers that are a pure function of a seed."""

from __future__ import annotations

import tensorflow as tf

ENOUGH = 40  # for every operation at once, and ten of RandAugment


class Draws:
    """The random numbers of one example, each asked for once, always in the same order.

    Args:
        seed: `(2,)` integers.
    """

    def __init__(self, seed):
        self._seed = seed
        # One operation for all: a random operation costs more than the arithmetic on a number.
        self._numbers = iter(tf.unstack(tf.random.stateless_uniform([ENOUGH], seed)))

    def uniform(self, low=0.0, high=1.0):
        """A number between `low` and `high`."""
        return low + (high - low) * next(self._numbers)

    def around(self, middle, amount):
        """A number within `amount` of `middle`."""
        return self.uniform(middle - amount, middle + amount)

    def integer(self, count):
        """An integer from 0 to `count` - 1, which may be a tensor."""
        return tf.minimum(tf.cast(next(self._numbers) * tf.cast(count, tf.float32), tf.int32), count - 1)

    def coin(self, probability=0.5):
        """True with this probability."""
        return next(self._numbers) < probability

    def noise(self, shape, high):
        """Numbers between 0 and `high`, the same whenever it is called."""
        return tf.random.stateless_uniform(shape, tf.random.fold_in(self._seed, 0), 0.0, high)
