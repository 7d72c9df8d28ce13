"""Unfreezing while `fit` runs, from the head down, so that early layers start to change after the later ones have adapted.

Howard & Ruder, 2018, Universal Language Model Fine-tuning for Text Classification, arXiv:1801.06146, section 3.3.
"""

from __future__ import annotations

from typing import Any

import keras

from keras_cnn import arguments
from keras_cnn.training.freezing import unfreeze


class GradualUnfreezing(keras.callbacks.Callback):
    """Unfreezes the model from a stage or layer on when an epoch begins, and compiles it again within `fit`.

    In Keras alone, setting `trainable` in a callback has no effect: Keras reads it in `compile`. The optimizer keeps its state
    for the variables that it trained before.

    Args:
        schedule: Epoch, counted from 0 -> name of the stage or layer as in `kc.unfreeze`, such as `{2: "stage5", 4: "stage4"}`.
        batch_norm: As in `kc.unfreeze`.

    Raises:
        ValueError: If the schedule is empty or an epoch is not an integer of at least 0; when `fit` begins, if there is no such
            layer.
    """

    def __init__(self, schedule: dict[int, str], batch_norm: bool = False):
        super().__init__()
        if not isinstance(schedule, dict) or not schedule:
            expected = "a dict of epoch -> stage"
            raise ValueError(arguments.message("GradualUnfreezing", "schedule", expected, schedule))
        for epoch in schedule:
            arguments.integer("GradualUnfreezing", "schedule", epoch, 0)
        self._schedule, self._batch_norm = dict(sorted(schedule.items())), batch_norm
        self._remaining: list[int] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Schedule all epochs, also where `fit` begins at a later one."""
        self._remaining = list(self._schedule)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Unfreeze what is due."""
        due = [start for start in self._remaining if start <= epoch]
        for start in due:
            unfreeze(self.model, starting_at=self._schedule[start], batch_norm=self._batch_norm)
        if due:
            self._remaining = self._remaining[len(due) :]
            self.model.make_train_function()  # `fit` has made one for the previous variables
