"""Training that a kill cannot change: started again, it ends with the same weights to the bit.

Keras' `BackupAndRestore` writes the number of the batch and never reads it, so that a job which is interrupted in the middle
of an epoch sees some batches twice. Here the state is (epoch, step), the data begin where it says, and everything that
`fit` changes is kept: weights, seeds of dropout, optimizer with averages and iterations, metrics, history.
"""

from __future__ import annotations

import math
import time

import keras

from keras_cnn import arguments
from keras_cnn.training import job_identity
from keras_cnn.training.checkpoints import Checkpoints


class ExactResume(keras.callbacks.Callback):
    """Resumes a killed `fit` where it was, bit for bit where TensorFlow's operations are deterministic (they are on a CPU).

    Give it the data and the callbacks, itself first, and run the same script again after a crash::

        resume = ExactResume("checkpoints")
        model.fit(resume.data(dataset), epochs=10, callbacks=[resume])

    Compared with the checkpoint are: names and shapes of the weights; the configuration of each layer, such as its activation,
    and how layers are connected; optimizer, loss, names of metrics, the number of trained weights; shapes and number of
    batches, and values of the data (up to 256 elements or 8 MiB: classes, names and pixels exactly, other numbers by a sample
    to within 2 %). Of a `tf.data.Dataset` that is shuffled or cached the values are those before that. Code of functions is not
    compared: neither that of `Dataset.map` after shuffling, nor that of lambdas and of layers of your own.

    Args:
        directory: Where checkpoints are kept: one folder for one job.
        seconds: Time between checkpoints within an epoch; each epoch begins with one.
        callbacks: Those whose state is kept too, such as `EarlyStopping`, `ReduceLROnPlateau` and `ModelCheckpoint`: their
            attributes that change in training, if they are plain values, lists, sets, dicts, arrays, variables, tensors, random
            generators, functions of a module, or objects of a class of yours with such attributes. A warning names those that
            are not. Give it no callback whose state is a file, such as `CSVLogger`.
        settings: Plain values by name that must not differ when the job resumes, such as a seed or a digest of the data.

    Raises:
        ValueError: When `fit` begins, if the model, the optimizer, the data or the settings are not those of the checkpoint.
    """

    def __init__(self, directory, seconds: float = 60, callbacks=(), settings=None):
        super().__init__()
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds < 0:
            raise ValueError(arguments.message("ExactResume", "seconds", "a number of at least 0", seconds))
        self._checkpoints, self._seconds = Checkpoints(directory), seconds
        from keras_cnn.training.callback_state import CallbackState  # imports TensorFlow, and the package does without

        self._others, self._settings, self._source = list(map(CallbackState, callbacks)), dict(settings or {}), None

    def data(self, dataset):
        """The data for `fit`: the same batches in the same order, beginning where the checkpoint says.

        Args:
            dataset: One of
                a `tf.data.Dataset`: what it shuffles must have a seed, and its random operations must be stateless. Nothing
                else may read one that shuffles, validation neither: each reading draws the next order. To resume within an
                epoch, the batches before are read without training on them;
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
        self._job = job_identity.describe(self.model, self._source.description, self._settings)
        self._pending, self._begun = self._checkpoints.load(), False
        if self._pending:
            _, state = self._pending
            job_identity.refuse_another(state["job"], self._job)
            self._assign()
            self._source.move(state["epoch"], state["step"])
            self.model._initial_epoch = state["epoch"]  # the way in that Keras' BackupAndRestore uses
            self._leave_out(state["step"])

    def on_epoch_begin(self, epoch, logs=None):
        """By now `on_train_begin` of all callbacks has run."""
        self._epoch = epoch
        if not self._begun:
            self._begin()

    def on_train_batch_begin(self, batch, logs=None):
        """An epoch begins with a checkpoint, or with one put back, when all callbacks have done what they do at its beginning.

        Before, one of them might still hold averages in the model, or change the learning rate a second time.
        """
        if batch == 0 and not self._pending:
            self._save(self._epoch, 0)
        elif batch == 0 and self._pending[1]["step"] == 0:
            self._put_back()

    def on_train_batch_end(self, batch, logs=None):
        """Write a checkpoint when it is time, unless the weights are spoiled: an older one leads here again."""
        due = not self._pending and time.monotonic() - self._saved >= self._seconds
        if due and all(math.isfinite(float(value)) for value in (logs or {}).values()):
            self._save(self._epoch, batch + 1)

    def on_epoch_end(self, epoch, logs=None):
        """The next epoch has an order of its own."""
        self._source.next_epoch()

    def on_train_end(self, logs=None):
        """Remember that the job is done: the same command again changes nothing."""
        self.model._initial_epoch = None
        if not self._begun:
            self._begin()
        if self._pending:
            self._put_back()
        else:
            self._save(self.params["epochs"], 0)

    def _begin(self):
        self._begun = True
        for state in self._others:
            state.begin()

    def _variables(self):
        own = {id(variable): variable for variable in (*self.model.variables, *self.model.optimizer.variables)}
        return [*own.values(), *self.model.metrics_variables]

    def _leave_out(self, steps):
        """Let the first `steps` steps of `fit` do nothing: their batches are not there, their work is done."""
        train, logs = self.model.train_function, None

        def nothing(iterator):
            nonlocal steps, logs
            if logs is None:
                self._assign()  # `fit` has reset the metrics, which callbacks see after each step
                logs = self.model.get_metrics_result()
            steps -= self.model.steps_per_execution
            if steps <= 0:
                # The checkpoint was written before the other callbacks heard of the end of this step: they hear of it now.
                self.model.train_function = train
                self._put_back()
            return dict(logs)

        if steps:
            self.model.train_function = nothing

    def _save(self, epoch, step):
        from keras_cnn.training.plain_values import to_plain

        arrays = [keras.ops.convert_to_numpy(variable) for variable in self._variables()]
        state = {"epoch": epoch, "step": step, "job": self._job, "variables": len(arrays)}
        state["history"] = to_plain([self.model.history.history, self.model.history.epoch], arrays)
        state["callbacks"] = [other.save(arrays) for other in self._others]
        self._checkpoints.save(arrays, state)
        self._saved = time.monotonic()

    def _assign(self):
        """The variables of model, optimizer and metrics as they were."""
        arrays, state = self._pending
        variables = self._variables()
        if len(variables) != state["variables"]:
            raise ValueError(
                "ExactResume: a model must have the variables of its checkpoint when `fit` begins, and keep them. Received: "
                f"{len(variables)}, was {state['variables']}. A callback that changes what is trained, such as "
                "GradualUnfreezing, does not go with it: unfreeze between calls of `fit`, with a folder for each."
            )
        for variable, array in zip(variables, arrays, strict=False):
            variable.assign(array)

    def _put_back(self):
        """All as it was at this point, whatever callbacks have done since `fit` began."""
        from keras_cnn.training.plain_values import from_plain

        self._assign()
        (arrays, state), self._pending, self._saved = self._pending, None, time.monotonic()
        self.model.history.history, self.model.history.epoch = from_plain(state["history"], arrays)
        for other, kept in zip(self._others, state["callbacks"], strict=True):
            other.restore(kept, arrays)
