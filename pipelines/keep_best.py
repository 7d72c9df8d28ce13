"""Of all epochs, and of the weights that training began with, the best on validation stays."""

from __future__ import annotations

import keras


def quality(score: dict) -> tuple[float, float]:
    """What "better on validation" means, in all of a job: higher accuracy, then lower cross-entropy."""
    return score["accuracy"], -score["loss"]


class KeepBest(keras.callbacks.Callback):
    """At the end of `fit`, puts the best weights back.

    Needs the metrics `accuracy` and `crossentropy` and validation data.

    Args:
        start: The score of the weights that training begins with: `accuracy`, and `loss`, the cross-entropy in nats.

    Attributes:
        best: The score of the best epoch.
    """

    def __init__(self, start: dict):
        super().__init__()
        self._start, self.best = start, None

    def on_train_begin(self, logs=None):
        """Remember where training begins."""
        self._weights, self._kept = self.model.get_weights(), self._start

    def on_epoch_end(self, epoch, logs=None):
        """Remember the weights if they are the best so far."""
        score = {"accuracy": float(logs["val_accuracy"]), "loss": float(logs["val_crossentropy"])}
        if self.best is None or quality(score) > quality(self.best):
            self.best = score
        if quality(score) > quality(self._kept):
            self._weights, self._kept = self.model.get_weights(), score

    def on_train_end(self, logs=None):
        """Put the best weights back."""
        self.model.set_weights(self._weights)
