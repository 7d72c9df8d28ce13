"""Training ends at a given time."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_cnn as kc
from pipelines.training.deadline import Deadline


class Interruption(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            raise KeyboardInterrupt


def fit(folder, at, *callbacks):
    """Two epochs of four steps: the number of steps, and the history."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    data = tf.data.Dataset.from_tensor_slices((np.ones((8, 2)), np.ones((8, 1)))).batch(2)
    resume = kc.training.ExactResume(folder, seconds=0)
    options = {"epochs": 2, "shuffle": False, "verbose": 0}
    history = model.fit(resume.data(data), callbacks=[resume, Deadline(at, resume), *callbacks], **options).history
    return int(model.optimizer.iterations), history


def test_fit_ends_after_the_step_in_which_the_time_is_over(tmp_path):
    assert fit(tmp_path / "a", time.monotonic() - 1)[0] == 1
    assert fit(tmp_path / "b", time.monotonic() + 1e6)[0] == 8


def test_a_resumed_fit_ends_after_the_steps_that_it_skips(tmp_path):
    """Stopped among them, it would end without a history."""
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, time.monotonic() + 1e6, Interruption())
    steps, history = fit(tmp_path, time.monotonic() - 1)
    assert steps == 3 and len(history["loss"]) == 1


def test_after_the_last_step_there_is_nothing_to_stop():
    deadline = Deadline(0.0, kc.training.ExactResume("unused"))
    deadline.set_params({"epochs": 3, "steps": 5})
    deadline.set_model(keras.Sequential())
    deadline.on_epoch_begin(2)
    deadline.model.stop_training = False
    deadline.on_train_batch_end(4)
    assert not deadline.model.stop_training
    deadline.on_train_batch_end(3)
    assert deadline.model.stop_training
