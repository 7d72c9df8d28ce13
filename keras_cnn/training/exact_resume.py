"""Training that survives a kill: started again, it ends with the same weights, bit for bit.

Keras' `BackupAndRestore` writes the number of the batch and never reads it, so that a job which is interrupted within an epoch
trains on some batches twice. Here the state is (epoch, step), the data begin at that position, and everything that `fit`
changes is saved: weights, seeds of dropout, optimizer with averages and iterations, metrics, history.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_cnn import arguments
from keras_cnn.keras_internals import build_training_state, set_initial_epoch
from keras_cnn.training import job_identity
from keras_cnn.training.checkpoints import Checkpoints


class ExactResume(keras.callbacks.Callback):
    """Resumes a killed `fit` at the same step, bit for bit where TensorFlow's operations are deterministic (as on a CPU).

    Give it the data and the callbacks, itself first, and run the same script again after a crash::

        resume = ExactResume("checkpoints")
        model.fit(resume.data(dataset), epochs=10, callbacks=[resume])

    When `fit` begins, the following are compared with the checkpoint: names and shapes of the weights; the configuration of
    each layer, such as its activation, and how layers are connected; optimizer, loss, names of metrics, the number of
    trainable weights; shapes and number of batches, and values of the data (up to 256 elements or 8 MiB: classes, names and
    pixels exactly, other numbers by a sample to within 2 %). Of a `tf.data.Dataset` that is shuffled or cached the values
    before that step are compared. The code of functions is not compared: neither that of `Dataset.map` after shuffling, nor
    that of lambdas and of custom layers.

    Args:
        directory: Where checkpoints are written; each job needs its own.
        seconds: Time between checkpoints within an epoch; each epoch begins with one.
        callbacks: Callbacks whose state is saved too, such as `EarlyStopping`, `ReduceLROnPlateau` and `ModelCheckpoint`: their
            attributes that change in training, if they are plain values, lists, sets, dicts, arrays, variables, tensors, random
            generators, functions of a module, or objects of a custom class with such attributes. A warning names those that
            are not. Give it no callback whose state is a file, such as `CSVLogger`.
        settings: Plain values by name that must not differ when the job resumes, such as a seed or a digest of the data.

    Raises:
        ValueError: When `fit` begins, if the model, the optimizer, the data or the settings are not those of the checkpoint.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        seconds: float = 60,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        settings: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds < 0:
            raise ValueError(arguments.message("ExactResume", "seconds", "a number of at least 0", seconds))
        self._checkpoints, self._seconds = Checkpoints(directory), seconds
        from keras_cnn.training.callback_state import (
            CallbackState,  # imports TensorFlow, which this package does not need
        )

        self._callbacks = list(map(CallbackState, callbacks))
        self._settings = dict(settings or {})
        self._source: Any = None  # of `data`
        self._pending: Any = None  # the checkpoint to restore, (arrays, state)
        self._begun = False  # whether `on_train_begin` of all callbacks has run

    def data(self, dataset: Any) -> Any:
        """The data for `fit`: the same batches in the same order, starting at the position of the checkpoint.

        Args:
            dataset: One of
                a `tf.data.Dataset`: what it shuffles must have a seed, and its random operations must be stateless. Nothing
                else may read a shuffled one, validation included: each reading draws the next order. To resume within an
                epoch, the batches before that step are read but not trained on;
                a `keras.utils.PyDataset` whose order depends only on the number of calls of `on_epoch_end`;
                a function `(epoch, step)` of two int64 tensors that returns the `tf.data.Dataset` of an epoch's batches from
                that step on: nothing is read twice.

        Returns:
            A `tf.data.Dataset`, for `fit` as `x`.
        """
        from keras_cnn.training import resumable_data

        self._source = resumable_data.source(dataset)
        return self._source.dataset

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Restore weights and optimizer, and set the epoch at which `fit` begins."""
        if self._source is None:
            raise ValueError("ExactResume: `fit` must be given `resume.data(dataset)`. Received: other data.")
        build_training_state(self.model, self._source.example())
        self._job = job_identity.describe(self.model, self._source.description, self._settings)
        self._pending, self._begun = self._checkpoints.load(), False
        if self._pending:
            _, state = self._pending
            job_identity.check_same(state["job"], self._job)
            self._assign_variables()
            self._source.move(state["epoch"], state["step"])
            set_initial_epoch(self.model, state["epoch"])
            self._skip_steps(state["step"])

    @property
    def is_skipping(self) -> bool:
        """Whether `fit` still skips steps that the checkpoint includes. Nothing may stop it there."""
        return self._pending is not None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note the state of the callbacks, whose `on_train_begin` has run by now."""
        self._epoch = epoch
        if not self._begun:
            self._begin()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Save or restore a checkpoint at the first batch of an epoch, after `on_epoch_begin` of all callbacks.

        Earlier, a callback might still hold averages in the model, or change the learning rate a second time.
        """
        if batch == 0 and not self._pending:
            self._save(self._epoch, 0)
        elif batch == 0 and self._pending[1]["step"] == 0:
            self._restore()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Write a checkpoint when it is due, unless the loss or a metric is NaN or infinite."""
        due = not self._pending and time.monotonic() - self._saved >= self._seconds
        if due and all(math.isfinite(float(value)) for value in (logs or {}).values()):
            self._save(self._epoch, batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Move the data to the next epoch, which has its own order."""
        self._source.next_epoch()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Save that the job is finished: the same command again changes nothing."""
        set_initial_epoch(self.model, None)
        if not self._begun:
            self._begin()
        if self._pending:
            self._restore()
        else:
            self._save(self.params["epochs"], 0)

    def _begin(self):
        self._begun = True
        for state in self._callbacks:
            state.begin()

    def _variables(self):
        unique = {id(variable): variable for variable in (*self.model.variables, *self.model.optimizer.variables)}
        return [*unique.values(), *self.model.metrics_variables]

    def _skip_steps(self, steps):
        """Let the first `steps` steps of `fit` do nothing: the checkpoint includes them, and the data begin after them."""
        train, logs = self.model.train_function, None

        def skip(iterator):
            nonlocal steps, logs
            if logs is None:
                self._assign_variables()  # `fit` has reset the metrics, which callbacks see after each step
                logs = self.model.get_metrics_result()
            steps -= self.model.steps_per_execution
            if steps <= 0:
                # The checkpoint was written before the other callbacks saw the end of this step: they see it now.
                self.model.train_function = train
                self._restore()
            return dict(logs)

        if steps:
            self.model.train_function = skip

    def _save(self, epoch, step):
        from keras_cnn.training.plain_values import to_plain

        arrays = [keras.ops.convert_to_numpy(variable) for variable in self._variables()]
        state = {"epoch": epoch, "step": step, "job": self._job, "variables": len(arrays)}
        state["history"] = to_plain([self.model.history.history, self.model.history.epoch], arrays)
        state["callbacks"] = [callback.save(arrays) for callback in self._callbacks]
        self._checkpoints.save(arrays, state)
        self._saved = time.monotonic()

    def _assign_variables(self):
        """Assign the saved values to the variables of model, optimizer and metrics."""
        arrays, state = self._pending
        variables = self._variables()
        if len(variables) != state["variables"]:
            raise ValueError(
                "ExactResume: a model must have the variables of its checkpoint when `fit` begins, and keep them. Received: "
                f"{len(variables)}, was {state['variables']}. A callback that changes what is trained, such as "
                "GradualUnfreezing, does not work with it: unfreeze between calls of `fit`, with one directory per call."
            )
        for variable, array in zip(variables, arrays, strict=False):
            variable.assign(array)

    def _restore(self):
        """Restore the whole checkpoint, whatever callbacks have done since `fit` began."""
        from keras_cnn.training.plain_values import from_plain

        self._assign_variables()
        (arrays, state), self._pending, self._saved = self._pending, None, time.monotonic()
        self.model.history.history, self.model.history.epoch = from_plain(state["history"], arrays)
        for callback, saved in zip(self._callbacks, state["callbacks"], strict=True):
            callback.restore(saved, arrays)
