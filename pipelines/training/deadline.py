"""The end of training at a given time."""

from __future__ import annotations

import time
from typing import Any

import keras

from keras_cnn.training import ExactResume


class Deadline(keras.callbacks.Callback):
    """Stops `fit` after the first step that ends later than a given time, if steps are left.

    Args:
        at: In seconds of `time.monotonic`.
        resume: The `ExactResume` of the same `fit`: steps that it skips do not count.
    """

    def __init__(self, at: float, resume: ExactResume):
        super().__init__()
        self._at, self._resume, self._is_last_epoch = at, resume, False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note whether it is the last one."""
        self._is_last_epoch = epoch + 1 == self.params["epochs"]

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the clock."""
        is_last = self._is_last_epoch and batch + 1 == self.params["steps"]
        if time.monotonic() > self._at and not is_last and not self._resume.is_skipping:
            self.model.stop_training = True
