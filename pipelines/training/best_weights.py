"""Of all epochs, and of the weights that training starts with, those that are best on validation are restored."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import keras

from keras_cnn.training import EMAWeights
from pipelines.training.divergence import DivergenceGuard
from pipelines.training.task import primary_metric, sort_key


class RestoreBestWeights(keras.callbacks.Callback):
    """At the end of `fit`, puts the best weights back.

    Needs validation data, the metric `crossentropy`, and the one that the score tells of. Its state, the best weights too,
    is plain values and arrays: `keras_cnn.training.ExactResume` keeps them in its checkpoints, so that a resumed job never
    takes other weights for the best.

    Args:
        start: The score of the weights that training starts with: the primary metric of the task, and `loss`, the
            cross-entropy in nats.
        patience: Epochs in a row without a better one after which training ends; 0: never.
        averaged: `keras_cnn.training.EMAWeights` whose averages are what validation has seen, or None.
        guard: `DivergenceGuard`: an epoch in which training diverged is worse than any other. None: without one.
        keep_last: Whether the last epoch counts as the best one, unless training diverged in it: where the validation images
            are training images too.
    """

    def __init__(
        self,
        start: dict,
        patience: int = 0,
        averaged: EMAWeights | None = None,
        guard: DivergenceGuard | None = None,
        keep_last: bool = False,
    ):
        super().__init__()
        self._metric, self._weights = primary_metric(start), None
        self._restored = [start[self._metric], start["loss"]]
        self._best: list[float] | None = None
        self._patience, self._wait, self._averaged, self._guard = patience, 0, averaged, guard
        self._keep_last = keep_last

    @property
    def best(self) -> dict | None:
        """The score of the best epoch."""
        return None if self._best is None else self._named(self._best)

    @property
    def restored(self) -> dict:
        """The score of the weights that are put back: of the best epoch, or of the start where no epoch was better."""
        return self._named(self._restored)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Remember where training begins. A job that is resumed gets back what it had remembered."""
        self._weights = self.model.get_weights()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        """Remember the weights if they are the best so far."""
        score = [float(logs[f"val_{self._metric}"]), float(logs["val_crossentropy"])]
        diverged = self._guard is not None and self._guard.reason is not None
        if diverged or not math.isfinite(score[1]):
            score[1] = math.inf
        self._wait += 1
        if self._best is None or self._better(score, self._best):
            self._best, self._wait = score, 0
        if self._better(score, self._restored):
            with self._averaged.swapped_in() if self._averaged else nullcontext():
                self._weights = self.model.get_weights()
            self._restored = score
        if self._wait >= self._patience > 0:
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Put the best weights back."""
        self.model.set_weights(self._weights)

    def _named(self, score):
        return dict(zip((self._metric, "loss"), score, strict=True))

    def _better(self, one, other):
        if self._keep_last:
            return math.isfinite(one[1])
        return sort_key(self._named(one)) > sort_key(self._named(other))
