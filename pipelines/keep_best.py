"""Of all epochs, and of the weights that training began with, the best on validation stays."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import keras
import numpy as np

from pipelines.objective import measure, quality


class KeepBest(keras.callbacks.Callback):
    """At the end of `fit`, puts the best weights back.

    Needs validation data, the metric `crossentropy`, and the one that the score tells of. The weights lie in a file and the
    rest of its state is plain values, so that `keras_cnn.training.ExactResume` can go on with it.

    Args:
        start: The score of the weights that training begins with: `accuracy` (or what else `pipelines.objective.measure`
            finds there), and `loss`, the cross-entropy in nats.
        file: Where the best weights are kept, an `.npz` file. If it is there, it is that of an interrupted job.
        patience: Epochs in a row without a better one after which training ends; 0: it goes on to the last.
        averaged: `keras_cnn.training.AveragedWeights` whose averages are what validation has seen, or None.
    """

    def __init__(self, start: dict, file, patience: int = 0, averaged=None):
        super().__init__()
        self._measure, self._file = measure(start), str(file)
        self._kept, self._best = [start[self._measure], start["loss"]], None
        self._patience, self._waited, self._averaged = patience, 0, averaged

    @property
    def best(self) -> dict | None:
        """The score of the best epoch."""
        return None if self._best is None else self._named(self._best)

    @property
    def kept(self) -> dict:
        """The score of the weights that are put back: of the best epoch, or of the start where no epoch was better."""
        return self._named(self._kept)

    def on_train_begin(self, logs=None):
        """Remember where training begins."""
        if not os.path.exists(self._file):
            self._write()

    def on_epoch_end(self, epoch, logs=None):
        """Remember the weights if they are the best so far."""
        score = [float(logs[f"val_{self._measure}"]), float(logs["val_crossentropy"])]
        self._waited += 1
        if self._best is None or self._better(score, self._best):
            self._best, self._waited = score, 0
        if self._better(score, self._kept):
            with self._averaged.inside() if self._averaged else nullcontext():
                self._write()
            self._kept = score
        if self._waited >= self._patience > 0:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        """Put the best weights back."""
        with np.load(self._file, allow_pickle=False) as file:
            self.model.set_weights([file[str(number)] for number in range(len(file.files))])

    def _named(self, score):
        return dict(zip((self._measure, "loss"), score, strict=True))

    def _better(self, one, other):
        return quality(self._named(one)) > quality(self._named(other))

    def _write(self):
        part = Path(self._file).with_suffix(".part.npz")
        np.savez(part, **{str(number): weight for number, weight in enumerate(self.model.get_weights())})
        os.replace(part, self._file)
