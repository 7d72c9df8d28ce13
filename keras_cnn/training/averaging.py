"""The running average of weights, seen by validation and kept; training goes on with the weights themselves.

Polyak & Juditsky, 1992, SIAM J. Control Optim. 30(4):838-855. Keras' own `SwapEMAWeights` swaps by adding and subtracting,
which rounds: after it the weights that training goes on with are not those that it had.
"""

from __future__ import annotations

from contextlib import contextmanager

import keras

from keras_cnn import arguments


class AveragedWeights(keras.callbacks.Callback):
    """Validates with the averages that an optimizer with `use_ema=True` keeps.

    They are in the model from the beginning of validation until the next epoch begins, so that `ModelCheckpoint` and
    `EarlyStopping` keep the very weights that were judged, wherever in the list of callbacks they are; training then continues
    with the weights themselves. At the end of `fit` Keras puts the averages into the model, and after that
    `EarlyStopping(restore_best_weights=True)` those of the best epoch. An epoch without validation ends with the weights
    themselves in the model. The moving statistics of batch norms are averages already, and stay as they are.

    Resume with `ExactResume`: Keras' `BackupAndRestore` would take the averages for the weights that training continues with.

    Raises:
        ValueError: When `fit` begins, if the optimizer keeps no averages.
    """

    _own, _in_fit = None, False  # also where `evaluate` is given the callback

    def on_train_begin(self, logs=None):
        """Check the optimizer."""
        optimizer = self._optimizer()
        if not getattr(optimizer, "use_ema", False):
            expected = "one with use_ema=True"
            raise ValueError(arguments.message("AveragedWeights", "optimizer", expected, type(optimizer).__name__))
        self._own, self._in_fit = None, True

    def on_test_begin(self, logs=None):
        """Put the averages into the model."""
        optimizer = self._optimizer()
        if self._own is None and optimizer.built:
            variables, averages = optimizer._trainable_variables, optimizer._model_variables_moving_average
            self._own = [(variable, keras.ops.convert_to_numpy(variable).copy()) for variable in variables]
            for variable, average in zip(variables, averages, strict=True):
                variable.assign(average)

    def on_test_end(self, logs=None):
        """Outside of `fit` nothing follows that is to see the averages."""
        if not self._in_fit:
            self._put_back()

    def on_epoch_begin(self, epoch, logs=None):
        """Train with the weights themselves."""
        self._put_back()

    def on_train_batch_begin(self, batch, logs=None):
        """Also after an evaluation in the middle of an epoch."""
        self._put_back()

    def on_train_end(self, logs=None):
        """The model keeps what it has: by now Keras has put the averages there."""
        self._own, self._in_fit = None, False

    @contextmanager
    def inside(self):
        """The averages are in the model within the `with` block, for instance to save them."""
        there = self._own is not None
        self.on_test_begin()
        try:
            yield
        finally:
            if not there:
                self._put_back()

    def _put_back(self):
        for variable, own in self._own or ():
            variable.assign(own)
        self._own = None

    def _optimizer(self):
        return getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)  # of LossScaleOptimizer
