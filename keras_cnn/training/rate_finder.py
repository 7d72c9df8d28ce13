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
        """A tenth of the rate with the lowest loss: with a margin to where it diverges."""
        return float(self.rates[np.argmin(self.losses)] / 10)

    def plot(self, path) -> None:
        """Draw loss over rate, with the suggestion, into a PNG or SVG file."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="loss, smoothed")
        axes.plot(self.rates, self.losses, color="#1f6feb")
        axes.axvline(self.suggestion, color="#d1242f", linestyle="--", label=f"suggestion {self.suggestion:.1e}")
        axes.set_ylim(self.losses.min() - 0.05 * np.ptp(self.losses), min(self.losses.max(), 1.5 * self.losses[0]))
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
        ValueError: If the model is not compiled, its rate is a schedule, or a number is out of range.
    """
    owner = "find_learning_rate"
    arguments.integer(owner, "steps", steps, 10)
    if not 0 < lowest < highest:
        raise ValueError(arguments.message(owner, "lowest", f"more than 0 and less than {highest}", lowest))
    if not model.compiled:
        raise ValueError(
            f"{owner}: `model` must be compiled. Received: {model.name!r}, which is not. Call compile first."
        )
    if not isinstance(model.optimizer._learning_rate, keras.Variable):
        raise ValueError(f"{owner}: the optimizer must have a number as its learning rate. Received: a schedule.")
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    kept = [
        (variable, keras.ops.convert_to_numpy(variable)) for variable in (*model.variables, *model.optimizer.variables)
    ]
    rising = _Rising(np.geomspace(lowest, highest, steps))
    x, y = data if isinstance(data, tuple) else (data, None)
    try:
        while not rising.done:
            model.fit(x, y, callbacks=[rising], verbose=0, shuffle=y is not None)
    finally:
        for variable, value in kept:
            variable.assign(value)
        model.stop_training = False
    losses = np.array(rising.losses)
    return RateCurve(rising.rates[: len(losses)], losses)


class _Rising(keras.callbacks.Callback):
    """Sets the rate of each step and keeps the smoothed loss."""

    def __init__(self, rates):
        super().__init__()
        self.rates, self.losses, self.done, self._average = rates, [], False, 0.0

    def on_train_batch_begin(self, batch, logs=None):
        self.model.reset_metrics()  # so that the loss of the step is that of its batch
        self.model.optimizer.learning_rate = self.rates[len(self.losses)]

    def on_train_batch_end(self, batch, logs=None):
        loss, count = float(logs["loss"]), len(self.losses) + 1
        self._average = SMOOTHING * self._average + (1 - SMOOTHING) * loss
        smoothed = self._average / (1 - SMOOTHING**count)
        diverged = not np.isfinite(loss) or (bool(self.losses) and smoothed > DIVERGED * min(self.losses))
        if not diverged:
            self.losses.append(smoothed)
        if diverged or count == len(self.rates):
            self.done = self.model.stop_training = True
