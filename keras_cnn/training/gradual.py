"""Unfreezing while `fit` runs, from the head down, so that early layers move only when what follows them has settled.

Howard & Ruder, 2018, Universal Language Model Fine-tuning for Text Classification, arXiv:1801.06146, section 3.3.
"""

from __future__ import annotations

import keras

from keras_cnn import arguments
from keras_cnn.training.freezing import unfreeze


class GradualUnfreezing(keras.callbacks.Callback):
    """Unfreezes from a stage or layer on when an epoch begins, and really: the model is compiled anew within `fit`.

    Setting `trainable` in a callback has no effect in Keras, which reads it in `compile`. The optimizer keeps its state for
    what it trained before.

    Args:
        schedule: Epoch, counted from 0 -> name of the stage or layer as in `kc.unfreeze`, such as `{2: "stage5", 4: "stage4"}`.
        batch_norm: As in `kc.unfreeze`.

    Raises:
        ValueError: If the schedule is empty or an epoch is no integer from 0; when `fit` begins, if there is no such layer.
    """

    def __init__(self, schedule: dict[int, str], batch_norm: bool = False):
        super().__init__()
        if not isinstance(schedule, dict) or not schedule:
            expected = "a dict of epoch -> stage"
            raise ValueError(arguments.message("GradualUnfreezing", "schedule", expected, schedule))
        for epoch in schedule:
            arguments.integer("GradualUnfreezing", "schedule", epoch, 0)
        self._schedule, self._batch_norm, self._due = dict(sorted(schedule.items())), batch_norm, []

    def on_train_begin(self, logs=None):
        """Everything is still to come, also where `fit` begins at a later epoch."""
        self._due = list(self._schedule)

    def on_epoch_begin(self, epoch, logs=None):
        """Unfreeze what is due."""
        due = [start for start in self._due if start <= epoch]
        for start in due:
            unfreeze(self.model, from_=self._schedule[start], batch_norm=self._batch_norm)
        if due:
            self._due = self._due[len(due) :]
            self.model.make_train_function()  # `fit` has made one for the variables of before
