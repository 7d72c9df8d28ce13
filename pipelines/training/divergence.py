"""What divergence looks like while a network trains, and what is done about it: back to the best weights at a lower rate."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import keras

from pipelines.training.task import primary_metric

MOST_RESTARTS = 2
RATE_FACTOR = 0.25  # of a restart's learning rate to the one that diverged
FAR_ABOVE = 2.0  # times the loss at the start, or of a uniform guess where that is higher
ROUNDING = 1e-6  # Keras reports metrics in float32
SMOOTHING = 0.95  # of the moving average of batch losses: one bad batch is not divergence


@dataclass(frozen=True)
class Restart:
    """Training diverged once.

    Attributes:
        epoch: The epoch in which it did, from 1, all epochs of the job counted.
        reason: Why it counts as divergence, a clause.
        learning_rate: The peak learning rate that diverged.
        next_learning_rate: The peak learning rate of the next try from the best weights; None where there is none.
    """

    epoch: int
    reason: str
    learning_rate: float
    next_learning_rate: float | None

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """One sentence."""
        if self.next_learning_rate is None:
            remedy = "Training stopped with the best weights so far. A lower --learning-rate may help."
        else:
            remedy = f"Restarted from the best weights with {self.next_learning_rate:.2g}."
        where = f"in epoch {self.epoch} at a learning rate of {self.learning_rate:.2g}"
        return f"Training diverged {where}: {self.reason}. {remedy}"


class DivergenceGuard(keras.callbacks.Callback):
    """Stops `fit` as soon as training has diverged.

    It has where the loss is NaN or infinite; where the moving average of the batch losses, or the validation cross-entropy of
    an epoch, is above twice what it was at the start (or above twice the loss of a uniform guess, if that is higher); or where
    validation says that the network has come to know nothing: an epoch is no better than always guessing by the class
    frequencies, although the start was better than that by more than two standard errors of such guesses.

    Its state is plain values, for `keras_cnn.training.ExactResume`.

    Args:
        start: The validation score of the weights that training begins with: `loss`, and the metric it is selected by.
        chance: The validation score of always guessing by the class frequencies, with the same keys.
        uniform: The loss of a uniform guess in nats: log of the number of classes, or log 2 for independent labels.
        examples: Number of validation images.
        settled: Number of steps before which only a loss that is NaN or infinite counts: of few images, an epoch is one or
            two steps, and in the first ones a network may become worse and recover.

    Attributes:
        reason: Why training counts as diverged, a clause; None as long as it does not.
    """

    def __init__(self, start: dict, chance: dict, uniform: float, examples: int, settled: int = 0):
        super().__init__()
        self.reason: str | None = None
        self._metric, self._uniform = primary_metric(start), uniform
        self._highest = FAR_ABOVE * max(start["loss"], uniform)
        self._chance = chance[self._metric]
        error = math.sqrt(self._chance * (1 - self._chance) / examples)
        self._was_above_chance = start[self._metric] - self._chance > 2 * error
        self._settled = settled
        self._smoothed: float | None = None
        self._limit, self._mean, self._batch, self._steps = math.inf, 0.0, 0, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keras' running mean of the loss begins again with every epoch."""
        self._mean, self._batch = 0.0, 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        """Look at the loss of this batch."""
        self._steps += 1
        loss = self._batch_loss(float(logs["loss"]))
        if self._smoothed is None:
            self._smoothed, self._limit = loss, FAR_ABOVE * max(loss, self._uniform)
        share = (
            1 - SMOOTHING if self._steps > self._settled + 1 else 1.0
        )  # the average begins when training has settled
        self._smoothed += share * (loss - self._smoothed)
        if not math.isfinite(loss):
            self._stop("the loss is NaN or infinite")
        elif self._steps > self._settled and self._smoothed > self._limit:
            self._stop(f"the training loss rose to {self._smoothed:.3g}, above {self._limit:.3g}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        """Look at what validation says, unless training has diverged already."""
        loss, score = float(logs["val_crossentropy"]), float(logs[f"val_{self._metric}"])
        name = self._metric.replace("_", " ")
        if self.reason or (self._steps < self._settled and math.isfinite(loss)):
            return
        if not loss <= self._highest:
            self._stop(f"the validation cross-entropy rose to {loss:.3g}, above {self._highest:.3g}")
        elif self._was_above_chance and score <= self._chance + ROUNDING:
            self._stop(f"the validation {name} fell to {100 * score:.1f} %, no better than a constant guess")

    def _batch_loss(self, mean):
        """The loss of the last batch alone, from the running mean that Keras reports."""
        self._batch, before = self._batch + 1, self._mean
        self._mean = mean
        return self._batch * mean - (self._batch - 1) * before

    def _stop(self, reason):
        self.reason, self.model.stop_training = reason, True
