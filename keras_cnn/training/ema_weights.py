"""The exponential moving average (EMA) of the weights: validation sees it and callbacks keep it; training uses the raw weights.

Polyak & Juditsky, 1992, SIAM J. Control Optim. 30(4):838-855. Keras' own `SwapEMAWeights` swaps by adding and subtracting,
which rounds: after a swap, training does not resume with exactly the weights that it had.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from keras_cnn import arguments
from keras_cnn.keras_internals import moving_averages, optimized_variables


class EMAWeights(keras.callbacks.Callback):
    """Validates with the averages that an optimizer with `use_ema=True` keeps.

    The averages are in the model from the start of validation until the next epoch begins, so that `ModelCheckpoint` and
    `EarlyStopping` keep the very weights that were validated, wherever they are in the list of callbacks. Then training
    resumes with the raw weights. At the end of `fit` Keras puts the averages into the model, and after that
    `EarlyStopping(restore_best_weights=True)` those of the best epoch. An epoch without validation ends with the raw
    weights in the model. The moving statistics of batch normalisation are averages already, and stay as they are.

    Resume with `ExactResume`: Keras' `BackupAndRestore` would restore the averages as the weights to train.

    Raises:
        ValueError: When `fit` begins, if the optimizer keeps no averages.
    """

    # Class attributes, for `evaluate` with this callback.
    _raw_weights: list[tuple[keras.Variable, Any]] | None = None
    _in_fit = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Check the optimizer."""
        optimizer = self._optimizer()
        if not getattr(optimizer, "use_ema", False):
            expected = "one with use_ema=True"
            raise ValueError(arguments.message("EMAWeights", "optimizer", expected, type(optimizer).__name__))
        self._raw_weights, self._in_fit = None, True

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Put the averages into the model."""
        optimizer = self._optimizer()
        if self._raw_weights is None and optimizer.built:
            variables = optimized_variables(optimizer)
            self._raw_weights = [(variable, keras.ops.convert_to_numpy(variable).copy()) for variable in variables]
            for variable, average in zip(variables, moving_averages(optimizer), strict=True):
                variable.assign(average)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Outside `fit`, put the raw weights back: no callback follows that keeps the averages."""
        if not self._in_fit:
            self._put_back()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Put the raw weights back, to train them."""
        self._put_back()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Put the raw weights back after an evaluation within an epoch."""
        self._put_back()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leave the averages in the model, where Keras has put them by now."""
        self._raw_weights, self._in_fit = None, False

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """A context in which the averages are in the model, for instance to save them."""
        already_there = self._raw_weights is not None
        self.on_test_begin()
        try:
            yield
        finally:
            if not already_there:
                self._put_back()

    def _put_back(self):
        for variable, raw in self._raw_weights or ():
            variable.assign(raw)
        self._raw_weights = None

    def _optimizer(self):
        return getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)  # of LossScaleOptimizer
