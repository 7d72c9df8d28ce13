"""The learning rate range test: one short run whose rate rises from step to step shows which rates work.

Smith, 2017, Cyclical Learning Rates for Training Neural Networks, arXiv:1506.01186, section 3.3.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_cnn import arguments
from keras_cnn.keras_internals import learning_rate_or_schedule

SMOOTHING = 0.9  # of the losses, which are those of single batches
DIVERGED = 4  # the run ends at this multiple of the lowest loss
ROUNDING = 1e-6  # a smaller relative decrease of the loss counts as none


@dataclass(frozen=True)
class LearningRateCurve:
    """The loss at each learning rate of a run.

    Attributes:
        learning_rates: `(steps,)`, rising by a constant factor.
        losses: `(steps,)`, smoothed by an exponential average with weight 0.1 for the newest, its bias corrected.
    """

    learning_rates: np.ndarray
    losses: np.ndarray

    @property
    def suggestion(self) -> float:
        """A tenth of the rate with the lowest loss, which leaves a margin to the rate at which training diverges.

        Raises:
            ValueError: If the loss does not fall at any rate.
        """
        if not self._falls:
            raise ValueError(
                f"LearningRateCurve: `suggestion` needs a loss that falls at some rate. Received: {len(self.losses)} losses "
                f"from {self.losses[0]:.4g}, the lowest {self.losses.min():.4g}, at rates from {self.learning_rates[0]:.1e} "
                f"to {self.learning_rates[-1]:.1e}. Try other rates; if the loss is the same at all of them, check whether "
                "labels and loss fit the outputs."
            )
        return float(self.learning_rates[np.argmin(self.losses)] / 10)

    @property
    def _falls(self):
        return self.losses.min() < self.losses[0] - ROUNDING * abs(self.losses[0])

    def plot(self, path: str | os.PathLike) -> None:
        """Draw loss over learning rate, with the suggestion where there is one, into a PNG or SVG file."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="loss, smoothed")
        axes.plot(self.learning_rates, self.losses, color="#1f6feb")
        if self._falls:
            axes.axvline(self.suggestion, color="#d1242f", linestyle="--", label=f"suggestion {self.suggestion:.1e}")
            highest = min(self.losses.max(), self.losses[0] + 0.5 * abs(self.losses[0]))
            axes.set_ylim(self.losses.min() - 0.05 * np.ptp(self.losses), highest)
            axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, dpi=150)


def find_learning_rate(
    model: keras.Model, data: Any, lowest: float = 1e-6, highest: float = 1.0, steps: int = 100
) -> LearningRateCurve:
    """Train for some steps with a rate that rises from `lowest` to `highest`, then restore the model.

    Args:
        model: A compiled model whose optimizer has a constant learning rate.
        data: What `fit` takes as `x`: a `tf.data.Dataset`, a `keras.utils.PyDataset`, or a pair of arrays `(x, y)`.
            Data with fewer batches than `steps` are read again.
        lowest: The first rate.
        highest: The last one; the run ends early when the loss is 4 times the lowest one, NaN or infinite.
        steps: Maximum number of batches, at least 10.

    Returns:
        The losses. Weights, optimizer and learning rate of `model` are what they were.

    Raises:
        ValueError: If the model is not compiled, its learning rate is a schedule, nothing in it is trainable, the loss of the
            first step is not finite, the data hold no batch, or a number is out of range.
    """
    _check(model, lowest, highest, steps)
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    variables = (*model.variables, *model.optimizer.variables)
    saved = [(variable, keras.ops.convert_to_numpy(variable)) for variable in variables]
    recorder = _RisingRate(np.geomspace(lowest, highest, steps))
    x, y = data if isinstance(data, tuple) else (data, None)
    try:
        while not recorder.done:
            before = len(recorder.losses)
            model.fit(x, y, callbacks=[recorder], verbose=0, shuffle=y is not None)
            if len(recorder.losses) == before and not recorder.done:
                raise ValueError(
                    "find_learning_rate: `data` must have batches. Received: data that end before the first."
                )
    finally:
        for variable, value in saved:
            variable.assign(value)
        model.stop_training = False
    losses = np.array(recorder.losses)
    if not len(losses):
        raise ValueError(
            f"find_learning_rate: the loss of the first step must be finite. Received: {recorder.last} at a learning rate of "
            f"{lowest}, before any weight has changed. Look for NaN or infinity in the data, for labels that the loss "
            "does not take, and for weights that are not finite."
        )
    return LearningRateCurve(recorder.rates[: len(losses)], losses)


def _check(model, lowest, highest, steps):
    owner = "find_learning_rate"
    arguments.integer(owner, "steps", steps, 10)
    if not highest < np.inf:
        raise ValueError(arguments.message(owner, "highest", "a finite number", highest))
    if not 0 < lowest < highest:
        raise ValueError(arguments.message(owner, "lowest", f"more than 0 and less than {highest}", lowest))
    if not model.compiled:
        raise ValueError(
            f"{owner}: `model` must be compiled. Received: {model.name!r}, which is not. Call compile first."
        )
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # of LossScaleOptimizer
    if not isinstance(learning_rate_or_schedule(inner), keras.Variable):
        raise ValueError(f"{owner}: the optimizer must have a number as its learning rate. Received: a schedule.")
    if not model.trainable_variables:
        raise ValueError(
            f"{owner}: `model` must have something to train. Received: {model.name!r}, all of whose weights are frozen. "
            "Unfreeze some, with kc.unfreeze or `trainable = True`, and compile again."
        )


class _RisingRate(keras.callbacks.Callback):
    """Sets the rate of each step and records the smoothed loss."""

    def __init__(self, rates):
        super().__init__()
        self.rates, self.losses, self.done, self.last, self._average = rates, [], False, None, 0.0

    def on_train_batch_begin(self, batch, logs=None):
        self.model.reset_metrics()  # so that the loss of the step is that of its batch
        self.model.optimizer.learning_rate = self.rates[len(self.losses)]

    def on_train_batch_end(self, batch, logs=None):
        loss, count = float(logs["loss"]), len(self.losses) + 1
        self.last, self._average = loss, SMOOTHING * self._average + (1 - SMOOTHING) * loss
        smoothed = self._average / (1 - SMOOTHING**count)
        diverged = not np.isfinite(loss) or (bool(self.losses) and smoothed > _limit(min(self.losses)))
        if not diverged:
            self.losses.append(smoothed)
        if diverged or count == len(self.rates):
            self.done = self.model.stop_training = True


def _limit(lowest):
    """The largest loss that has not diverged; some losses, such as a cosine similarity, are less than 0."""
    return lowest + (DIVERGED - 1) * abs(lowest)
