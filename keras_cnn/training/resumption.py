"""Training that a kill cannot change: started again, it ends with the same weights to the bit.

Keras' `BackupAndRestore` writes the number of the batch and never reads it, so that a job which is interrupted in the middle
of an epoch sees some batches twice. Here the state is (epoch, step), the data begin where it says, and everything that
`fit` changes is kept: weights, seeds of dropout, optimizer with averages and iterations, metrics, history.
"""

from __future__ import annotations

import hashlib
import json
import time

import keras
import numpy as np

from keras_cnn import arguments
from keras_cnn.training.checkpoints import Checkpoints


class ExactResume(keras.callbacks.Callback):
    """Goes on where a killed `fit` was, to the bit where TensorFlow's operations are deterministic (they are on a CPU).

    Give it the data and the callbacks, itself first, and run the same script again after a crash::

        resume = ExactResume("checkpoints")
        model.fit(resume.data(dataset), epochs=10, callbacks=[resume])

    Args:
        directory: Where checkpoints are kept: one folder for one job.
        seconds: Time between checkpoints within an epoch; each epoch begins with one.
        callbacks: Those whose state is kept too, such as `EarlyStopping` and `ReduceLROnPlateau`: their attributes that are
            plain values or arrays.
        settings: Plain values by name that must not differ when the job goes on, such as a seed or a digest of the data.

    Raises:
        ValueError: When `fit` begins, if the model, the optimizer, the data or the settings are not those of the checkpoint.
    """

    def __init__(self, directory, seconds: float = 60, callbacks=(), settings=None):
        super().__init__()
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds < 0:
            raise ValueError(arguments.message("ExactResume", "seconds", "a number of at least 0", seconds))
        self._checkpoints, self._seconds, self._others = Checkpoints(directory), seconds, tuple(callbacks)
        self._settings, self._source = dict(settings or {}), None

    def data(self, dataset):
        """The data for `fit`: the same batches in the same order, beginning where the checkpoint says.

        Args:
            dataset: One of
                a `tf.data.Dataset`: what it shuffles must have a seed, and its random operations must be stateless. Going on
                in an epoch reads the batches before without training on them;
                a `keras.utils.PyDataset` whose order depends on the number of calls of `on_epoch_end` alone;
                a function `(epoch, step)` of two int64 tensors that gives the `tf.data.Dataset` of an epoch's batches from
                that step on: nothing is read twice.

        Returns:
            What `fit` takes as `x`.
        """
        from keras_cnn.training import resumable_data

        self._source = resumable_data.source(dataset)
        return self._source.dataset

    def on_train_begin(self, logs=None):
        """Put weights and optimizer back, and tell `fit` where to begin."""
        if self._source is None:
            raise ValueError("ExactResume: `fit` must be given `resume.data(dataset)`. Received: other data.")
        self.model._symbolic_build(data_batch=self._source.example())  # the state of metrics and optimizer is there now
        self._job, self._pending = _describe(self.model, self._source, self._settings), None
        found = self._checkpoints.load()
        if found:
            arrays, self._pending = found
            _refuse_another(self._pending["job"], self._job)
            arrays, self._arrays = arrays[: self._pending["variables"]], arrays
            for variable, array in zip(self._variables(), arrays, strict=True):
                variable.assign(array)
            self._metrics = arrays[len(arrays) - len(self.model.metrics_variables) :]
            self._source.move(self._pending["epoch"], self._pending["step"])
            self.model._initial_epoch = self._pending["epoch"]  # the way in that Keras' BackupAndRestore uses
            self._leave_out(self._pending["step"])

    def on_epoch_begin(self, epoch, logs=None):
        """An epoch begins with a checkpoint."""
        self._epoch = epoch
        if self._pending is None:
            self._save(epoch, 0)
        elif self._pending["step"] == 0:
            self._put_back_the_rest()

    def on_train_batch_end(self, batch, logs=None):
        """Write a checkpoint when it is time."""
        if self._pending is None and time.monotonic() - self._saved >= self._seconds:
            self._save(self._epoch, batch + 1)

    def on_epoch_end(self, epoch, logs=None):
        """The next epoch has an order of its own."""
        self._source.next_epoch()

    def on_train_end(self, logs=None):
        """Remember that the job is done: the same command again changes nothing."""
        self.model._initial_epoch = None
        if self._pending:
            self._put_back_the_rest()
        else:
            self._save(self.params["epochs"], 0)

    def _variables(self):
        own = {id(variable): variable for variable in (*self.model.variables, *self.model.optimizer.variables)}
        return [*own.values(), *self.model.metrics_variables]

    def _leave_out(self, steps):
        """Let the first `steps` steps of `fit` do nothing: their batches are not there, their work is done."""
        train = self.model.train_function

        def nothing(iterator):
            nonlocal steps
            steps -= self.model.steps_per_execution
            if steps > 0:
                return {}
            # The checkpoint was written before the other callbacks heard of the end of this step: they hear of it now.
            self.model.train_function = train
            self._put_back_the_rest()
            return self.model.get_metrics_result()

        if steps:
            self.model.train_function = nothing

    def _save(self, epoch, step):
        arrays = [keras.ops.convert_to_numpy(variable) for variable in self._variables()]
        state = {
            "epoch": epoch,
            "step": step,
            "variables": len(arrays),
            "job": self._job,
            "history": self.model.history.history,
            "epochs": self.model.history.epoch,
            "callbacks": [_state(callback, arrays) for callback in self._others],
        }
        self._checkpoints.save(arrays, state)
        self._saved = time.monotonic()

    def _put_back_the_rest(self):
        state, self._pending, self._saved = self._pending, None, time.monotonic()
        for variable, array in zip(self.model.metrics_variables, self._metrics, strict=True):
            variable.assign(array)
        self.model.history.history, self.model.history.epoch = state["history"], state["epochs"]
        for callback, attributes in zip(self._others, state["callbacks"], strict=True):
            vars(callback).update({name: _from_plain(value, self._arrays) for name, value in attributes.items()})


def _describe(model, source, settings):
    """What must be the same when a job goes on, as texts and numbers by name."""
    # Names that Keras counts up within a process say nothing: "conv2d_1", "adam_2".
    weights = [(weight.name, tuple(weight.shape), str(weight.dtype)) for weight in model.weights]
    loss = keras.saving.serialize_keras_object(model.loss) if callable(model.loss) else model.loss
    parts = {
        "model": hashlib.sha256(repr(weights).encode()).hexdigest(),
        "optimizer": keras.optimizers.serialize(model.optimizer),
        "loss": loss,
        "trained weights": len(model.trainable_weights),
        "data": source.description,
        "settings": settings,
    }
    leaves = dict(_leaves("", json.loads(json.dumps(parts, default=str))))
    leaves.pop("optimizer config name", None)
    return leaves


def _leaves(prefix, value):
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(f"{prefix} {name}" if prefix else name, inner)
    else:
        yield prefix, value


def _refuse_another(old, new):
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if changed:
        listed = "; ".join(f"{name} is {new.get(name)!r}, was {old.get(name)!r}" for name in changed[:3])
        raise ValueError(
            f"ExactResume: a job goes on with what it began with. Received: {len(changed)} differences: {listed}. Name an "
            "empty folder for a new job."
        )


def _state(callback, arrays):
    """The attributes of a callback that are plain values or arrays, as JSON takes them; arrays go to the end of `arrays`."""
    plain = {name: _plain(value, arrays) for name, value in vars(callback).items() if name not in ("_model", "params")}
    return {name: value for name, value in plain.items() if value is not NotImplemented}


def _plain(value, arrays):
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, (bool, int, float, str, type(None), np.generic)):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, (list, tuple)):
        entries = [_plain(entry, arrays) for entry in value]
        return NotImplemented if NotImplemented in entries else entries
    return NotImplemented


def _from_plain(value, arrays):
    if isinstance(value, dict):
        return arrays[value["array"]]
    return [_from_plain(entry, arrays) for entry in value] if isinstance(value, list) else value
