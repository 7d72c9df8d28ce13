"""Which learning rate? One short run with a rate that rises from step to step tells.

Smith, 2017, Cyclical Learning Rates for Training Neural Networks, arXiv:1506.01186, section 3.3 (the range test).
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np

from keras_cnn import arguments

SMOOTHING = 0.9  # of the losses, which are those of single batches
DIVERGED = 4  # times the lowest loss: the run ends
ROUNDING = 1e-6  # a fall by less of the loss is none


@dataclass(frozen=True)
class RateCurve:
    """The loss at each rate of a run.

    Attributes:
        rates: `(steps,)`, rising by a constant factor.
        losses: `(steps,)`, smoothed by an exponential average with weight 0.1 for the newest, its bias corrected.
    """

    rates: np.ndarray
    losses: np.ndarray

    @property
    def suggestion(self) -> float:
        """A tenth of the rate with the lowest loss: with a margin to where it diverges.

        Raises:
            ValueError: If the loss does not fall at any rate.
        """
        if not self._falls:
            raise ValueError(
                f"RateCurve: `suggestion` needs a loss that falls at some rate. Received: {len(self.losses)} losses from "
                f"{self.losses[0]:.4g}, the lowest {self.losses.min():.4g}, at rates from {self.rates[0]:.1e} to "
                f"{self.rates[-1]:.1e}. Try other rates; if the loss is the same at all of them, look whether labels and loss "
                "fit the outputs."
            )
        return float(self.rates[np.argmin(self.losses)] / 10)

    @property
    def _falls(self):
        return self.losses.min() < self.losses[0] - ROUNDING * abs(self.losses[0])

    def plot(self, path) -> None:
        """Draw loss over rate, with the suggestion where there is one, into a PNG or SVG file."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="loss, smoothed")
        axes.plot(self.rates, self.losses, color="#1f6feb")
        if self._falls:
            axes.axvline(self.suggestion, color="#d1242f", linestyle="--", label=f"suggestion {self.suggestion:.1e}")
            highest = min(self.losses.max(), self.losses[0] + 0.5 * abs(self.losses[0]))
            axes.set_ylim(self.losses.min() - 0.05 * np.ptp(self.losses), highest)
            axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, dpi=150)


def find_learning_rate(
    model: keras.Model, data, lowest: float = 1e-6, highest: float = 1.0, steps: int = 100
) -> RateCurve:
    """Train for some steps with a rate that rises from `lowest` to `highest`, then put everything back as it was.

    Args:
        model: A compiled model whose optimizer has a plain number as its rate.
        data: What `fit` takes as `x`: a `tf.data.Dataset`, a `keras.utils.PyDataset`, or a pair of arrays `(x, y)`.
            It is begun again where it is shorter than `steps`.
        lowest: The first rate.
        highest: The last one; the run ends before it when the loss is 4 times the lowest one, or not a number.
        steps: Batches at most, at least 10.

    Returns:
        A `RateCurve`. Weights, optimizer and rate of `model` are what they were.

    Raises:
        ValueError: If the model is not compiled, its rate is a schedule, nothing in it is trainable, the loss of the first
            step is not finite, the data hold no batch, or a number is out of range.
    """
    _check(model, lowest, highest, steps)
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    kept = [
        (variable, keras.ops.convert_to_numpy(variable)) for variable in (*model.variables, *model.optimizer.variables)
    ]
    rising = _Rising(np.geomspace(lowest, highest, steps))
    x, y = data if isinstance(data, tuple) else (data, None)
    try:
        while not rising.done:
            before = len(rising.losses)
            model.fit(x, y, callbacks=[rising], verbose=0, shuffle=y is not None)
            if len(rising.losses) == before and not rising.done:
                raise ValueError(
                    "find_learning_rate: `data` must have batches. Received: data that end before the first."
                )
    finally:
        for variable, value in kept:
            variable.assign(value)
        model.stop_training = False
    losses = np.array(rising.losses)
    if not len(losses):
        raise ValueError(
            f"find_learning_rate: the loss of the first step must be finite. Received: {rising.last} at a learning rate of "
            f"{lowest}, which is before anything was learned. Look for NaN or infinity in the data, for labels that the loss "
            "does not take, and for weights that are not finite."
        )
    return RateCurve(rising.rates[: len(losses)], losses)


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
    if not isinstance(inner._learning_rate, keras.Variable):
        raise ValueError(f"{owner}: the optimizer must have a number as its learning rate. Received: a schedule.")
    if not model.trainable_variables:
        raise ValueError(
            f"{owner}: `model` must have something to train. Received: {model.name!r}, all of whose weights are frozen. "
            "Unfreeze some, with kc.unfreeze or `trainable = True`, and compile again."
        )


class _Rising(keras.callbacks.Callback):
    """Sets the rate of each step and keeps the smoothed loss."""

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
    """Losses above it have diverged; some losses, such as a cosine similarity, are less than 0."""
    return lowest + (DIVERGED - 1) * abs(lowest)
