"""From images to batches: shuffled by index and varied; any batch can be made again.

Order and random choices are pure functions of (seed, epoch, position): neither threads nor interruptions change them. All
of it is TensorFlow: Python inside a `tf.data` pipeline can keep a process from ending.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from keras_cnn import arguments
from pipelines.augment import PRESETS, Augmentation, augment
from pipelines.datasets import order
from pipelines.datasets.image_files import Files

PARALLEL = 2  # batches in the making: each uses several cores by itself, and takes its memory
ALIGNMENT = 64  # bytes


class Batches:
    """The batches of every epoch, for `model.fit`; in each epoch every example comes once.

    An epoch is a `tf.data.Dataset` of `(images, targets)`: float32 `(batch, *size, 3)`, 0..255, and float32
    `(batch, classes)`. Called with an epoch and a step this gives the rest of that epoch, the same batches as if those before
    had come, and at once; so a job that is interrupted goes on with `keras_cnn.training.ExactResume`::

        model.fit(resume.data(batches), epochs=10, callbacks=[resume])

    Args:
        source: From `stored`, or any uint8 array `(examples, *augmentation.stored_size(size), 3)`.
        targets: `(examples,)` class numbers, or `(examples, classes)`: one-hot, multi-hot or soft.
        size: Height and width of the network's input.
        batch_size: Examples a step.
        classes: Number of classes; needed where `targets` are class numbers.
        augmentation: How the images are varied.
        seed: An integer of at least 0; of the order and of the augmentation.
        shuffle: Whether each epoch has an order of its own; else the examples come as they lie.
        balance: "sampling": instead of every example once, every class comes equally often (`order.balanced`). "weights":
            a third element, `(batch,)`, weighs the loss (`order.class_weights`). None: neither.
        drop_remainder: Whether to leave out the last batch of an epoch where it is smaller than the others.
        rows: Which images of `source` are the examples, in the order of `targets`; None: all.

    Attributes:
        source: As given.
        examples: Examples an epoch.
        steps: Batches an epoch.

    Raises:
        ValueError: If an argument is out of range, or arguments do not fit together.
    """

    def __init__(
        self,
        source,
        targets,
        size,
        batch_size: int,
        *,
        classes: int | None = None,
        augmentation: Augmentation = PRESETS["none"],
        seed: int = 0,
        shuffle: bool = True,
        balance: str | None = None,
        drop_remainder: bool = False,
        rows=None,
    ):
        self.source = source
        targets, self._size, self.examples = np.asarray(targets), tuple(size), len(targets)
        rows = np.arange(len(source)) if rows is None else np.asarray(rows)
        self._classes = _check(source, rows, targets, self._size, batch_size, classes, augmentation, seed, balance)
        self.steps = self.examples // batch_size if drop_remainder else math.ceil(self.examples / batch_size)
        if not self.steps:
            remedy = "Leave drop_remainder off, or take smaller batches."
            raise ValueError(arguments.message("Batches", "batch_size", f"at most {self.examples}", batch_size, remedy))
        self._batch_size, self._augmentation, self._seed = batch_size, augmentation, seed
        self._rows = _order(self.examples, targets, seed, shuffle, balance)
        self._images, self._targets = _images(source, rows), _targets(targets, self._classes)
        self._weights = order.class_weights(order.labels_of(targets), self._classes) if balance == "weights" else None
        self._length = batch_size if drop_remainder or self.examples % batch_size == 0 else None

    def __call__(self, epoch=0, step=0) -> tf.data.Dataset:
        """The batches of an epoch, from 0, from a step on; both may be int64 tensors."""
        epoch = tf.cast(epoch, tf.int64)
        rows = self._rows(epoch)

        def batch(step):
            first = step * self._batch_size
            return self._batch(epoch, first, rows[first : first + self._batch_size])

        numbers = tf.data.Dataset.range(tf.cast(step, tf.int64), self.steps)
        dataset = numbers.map(batch, num_parallel_calls=PARALLEL, deterministic=True).prefetch(PARALLEL)
        return dataset.with_options(options())

    def epochs(self, count: int) -> tf.data.Dataset:
        """The batches of the first epochs, one after another: for `fit(..., steps_per_epoch=batches.steps)`."""
        dataset = tf.data.Dataset.range(count).flat_map(self)
        return dataset.apply(tf.data.experimental.assert_cardinality(count * self.steps)).with_options(options())

    def _batch(self, epoch, first, rows):
        rows = tf.ensure_shape(rows, (self._length,))
        places = first + tf.range(tf.size(rows, tf.int64))
        images, targets = self._images(rows), self._targets(rows)
        batch = augment(images, targets, self._size, self._augmentation, self._seed, epoch, places)
        return batch if self._weights is None else (*batch, tf.linalg.matvec(batch[1], self._weights))


def _check(source, rows, targets, size, batch_size, classes, augmentation, seed, balance):
    """The number of classes, if the arguments of `Batches` fit together."""
    arguments.integer("Batches", "batch_size", batch_size)
    arguments.integer("Batches", "examples", len(targets))
    arguments.integer("Batches", "seed", seed, 0)
    arguments.one_of("Batches", "balance", balance, (None, "sampling", "weights"))
    expected = (len(targets), *augmentation.stored_size(size), 3)
    if (len(rows), *source.shape[1:]) != expected or source.dtype != np.uint8:
        received = f"{source.dtype} {(len(rows), *source.shape[1:])}"
        raise ValueError(arguments.message("Batches", "source", f"uint8 {expected}, an image a target", received))
    if targets.ndim == 2:
        return targets.shape[1]
    if classes is None or not 0 <= targets.min() <= targets.max() < classes:
        expected = "class numbers from 0 to `classes` - 1, or rows of numbers"
        received = f"{targets.min()} to {targets.max()}, classes={classes}"
        raise ValueError(arguments.message("Batches", "targets", expected, received))
    return classes


def _order(count, targets, seed, shuffle, balance):
    """A function of the epoch: the rows of the examples in the order in which they come."""
    if balance == "sampling":
        balanced = order.balanced(order.labels_of(targets))
        return lambda epoch: balanced(seed, epoch)
    if shuffle:
        return lambda epoch: order.shuffled(count, seed, epoch)
    return lambda epoch: tf.range(count, dtype=tf.int64)


def _images(source, rows):
    """A function of a tensor of positions: the images at those of `rows`."""
    rows = tf.constant(rows, tf.int64)
    if isinstance(source, Files):
        return lambda positions: source.read(tf.gather(rows, positions))
    array = as_tensor(source)
    return lambda positions: tf.gather(array, tf.gather(rows, positions))


def as_tensor(source: np.ndarray):
    """An array as a tensor, where possible without a copy."""
    # An array that is mapped from the disk is shared, not read into memory. TensorFlow wants it aligned as it is there.
    shared = source.flags.writeable and source.flags.c_contiguous and source.ctypes.data % ALIGNMENT == 0
    return tf.experimental.dlpack.from_dlpack(source.__dlpack__()) if shared else tf.constant(source)


def _targets(targets, width):
    """A function of a tensor of rows: their targets, `(rows, width)`."""
    if targets.ndim == 2:
        array = tf.constant(targets, tf.float32)
        return lambda rows: tf.gather(array, rows)
    labels = tf.constant(targets, tf.int64)
    return lambda rows: tf.one_hot(tf.gather(labels, rows), width)


def options():
    """Of a pipeline that takes from arrays in memory."""
    chosen = tf.data.Options()
    # To rewrite the pipeline, TensorFlow would copy all images into it.
    chosen.experimental_optimization.apply_default_optimizations = False
    return chosen
