"""What the contenders on Keras share: `model.fit` for as many epochs as fit into the seconds, with validations recorded."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from job import BATCH_SIZE, Job, Record, epochs_within

TIMED_STEPS = 4


class Validations(keras.callbacks.Callback):
    """Records the validation accuracy after each epoch."""

    def __init__(self, record: Record):
        super().__init__()
        self._record = record

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._record.validated((logs or {})["val_accuracy"])


def fit(model: keras.Model, job: Job, until: float, record: Record) -> None:
    """Train a compiled model, whose metric is called accuracy, until about this second."""
    training, validation = batches(job, "train"), batches(job, "validation")
    per_epoch = seconds_per_epoch(model, training, validation)
    start = record.seconds()
    epochs = epochs_within(until - start, per_epoch)
    model.fit(training, epochs=epochs, validation_data=validation, callbacks=[Validations(record)], verbose=0)
    record.trained(epochs, len(job.rows("train")), start)


def batches(job: Job, split: str) -> tf.data.Dataset:
    """Images and class numbers; training images in a new order in each epoch.

    A dataset, because KerasHub does not shuffle arrays.
    """
    images, labels = map(tf.constant, job.images(split))
    indices = tf.data.Dataset.range(len(labels))
    indices = indices.shuffle(len(labels), job.seed) if split == "train" else indices
    return indices.batch(BATCH_SIZE).map(lambda rows: (tf.gather(images, rows), tf.gather(labels, rows))).prefetch(1)


def seconds_per_epoch(model: keras.Model, training: tf.data.Dataset, validation: tf.data.Dataset) -> float:
    """Processor seconds of an epoch and of validation, from a few steps; model and optimizer are as before."""
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    values = [variable.numpy() for variable in variables]
    seconds = _seconds(model.fit, training) + _seconds(model.evaluate, validation)
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return seconds


def _seconds(method: Callable[..., Any], dataset: tf.data.Dataset) -> float:
    method(dataset.take(1), verbose=0)  # traces
    steps = min(TIMED_STEPS, len(dataset))
    start = time.process_time()
    method(dataset.take(steps), verbose=0)
    return (time.process_time() - start) / steps * len(dataset)


def count_correct(model: keras.Model, job: Job) -> int:
    """Number of test images that are classified correctly."""
    images, labels = job.images("test")
    return int((model.predict(images, verbose=0).argmax(1) == labels).sum())
