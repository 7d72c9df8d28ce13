"""The end of training at a given time."""

from __future__ import annotations

import time
from typing import Any

import keras


class Deadline(keras.callbacks.Callback):
    """Stops `fit` after the first step that ends later than a given time.

    Args:
        at: In seconds of `time.monotonic`.

    Attributes:
        reached: Whether it has stopped `fit`.
    """

    def __init__(self, at: float):
        super().__init__()
        self._at, self.reached = at, False

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the clock."""
        if time.monotonic() > self._at:
            self.reached = self.model.stop_training = True
