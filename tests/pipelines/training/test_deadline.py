"""Training ends at a given time."""

import time

import keras
import numpy as np

from pipelines.training.deadline import Deadline


def steps_of_a_fit(at):
    """How many of four steps a `fit` makes, and its `Deadline`."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    deadline = Deadline(at)
    model.fit(np.ones((8, 2)), np.ones((8, 1)), batch_size=2, callbacks=[deadline], verbose=0)
    return int(model.optimizer.iterations), deadline.reached


def test_fit_ends_after_the_step_in_which_the_time_is_over():
    assert steps_of_a_fit(time.monotonic() - 1) == (1, True)
    assert steps_of_a_fit(time.monotonic() + 1e6) == (4, False)
