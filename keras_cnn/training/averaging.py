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

    At the end of `fit` Keras puts the averages into the model. The moving statistics of batch norms are averages already,
    and stay as they are.

    Raises:
        ValueError: When `fit` begins, if the optimizer keeps no averages.
    """

    def on_train_begin(self, logs=None):
        """Check the optimizer."""
        optimizer = self._optimizer()
        if not getattr(optimizer, "use_ema", False):
            expected = "one with use_ema=True"
            raise ValueError(arguments.message("AveragedWeights", "optimizer", expected, type(optimizer).__name__))
        self._own = None

    def on_test_begin(self, logs=None):
        """Put the averages into the model."""
        optimizer = self._optimizer()
        if getattr(self, "_own", None) is None and optimizer.built:
            variables, averages = optimizer._trainable_variables, optimizer._model_variables_moving_average
            self._own = [keras.ops.convert_to_numpy(variable).copy() for variable in variables]
            for variable, average in zip(variables, averages, strict=True):
                variable.assign(average)

    def on_test_end(self, logs=None):
        """Put the weights themselves back."""
        if getattr(self, "_own", None) is not None:
            for variable, own in zip(self._optimizer()._trainable_variables, self._own, strict=True):
                variable.assign(own)
            self._own = None

    @contextmanager
    def inside(self):
        """The averages are in the model within the `with` block, for instance to save them."""
        self.on_test_begin()
        try:
            yield
        finally:
            self.on_test_end()

    def _optimizer(self):
        return getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)  # of LossScaleOptimizer
