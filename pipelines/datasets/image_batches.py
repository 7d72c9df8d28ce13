"""From images to batches: shuffled and augmented, and any batch can be made again.

Order and random choices are pure functions of (seed, epoch, index in the epoch): neither threads nor interruptions change
them. All of it is TensorFlow: Python inside a `tf.data` pipeline can keep a process from ending.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_cnn import arguments
from keras_cnn.autograph import without_autograph
from pipelines.augment import PRESETS, Augmentation, augment_batch
from pipelines.datasets import order
from pipelines.datasets.image_files import ImageFiles

PARALLEL = 2  # batches at a time: each uses several cores by itself, and needs memory
ALIGNMENT = 64  # bytes


class ImageBatches:
    """The batches of every epoch, for `model.fit`. In each epoch every example comes once.

    An epoch is a `tf.data.Dataset` of `(images, targets)`: float32 `(batch, *size, 3)`, 0..255, and float32
    `(batch, classes)`. A call with an epoch and a step gives the rest of that epoch, without computing the batches before
    that step. So `keras_cnn.training.ExactResume` resumes an interrupted job within an epoch::

        model.fit(resume.data(batches), epochs=10, callbacks=[resume])

    Args:
        source: From `load_images`, or any uint8 array `(examples, *augmentation.stored_size(size), 3)`.
        targets: `(examples,)` class numbers, or `(examples, classes)`: one-hot, multi-hot or soft.
        size: Height and width of the network's input.
        batch_size: Examples per step; the last batch of an epoch may be smaller.
        classes: Number of classes; needed if `targets` are class numbers.
        augmentation: How the images are augmented.
        seed: Of the order and of the augmentation, an integer of at least 0.
        shuffle: Whether the examples come in a new random order in each epoch; otherwise in the order of `targets`.
        balance: "sampling": every class comes equally often, instead of every example once (`order.balanced`). "weights":
            a third element `(batch,)` weighs the loss (`order.class_weights`). None: neither.
        indices: Which images of `source` are the examples, in the order of `targets`; None: all.

    Attributes:
        source: As given.
        examples: Number of examples per epoch.
        steps: Number of batches per epoch.

    Raises:
        ValueError: If an argument is out of range, or arguments do not fit together.
    """

    def __init__(
        self,
        source: np.ndarray | ImageFiles,
        targets: npt.ArrayLike,
        size: tuple[int, int],
        batch_size: int,
        *,
        classes: int | None = None,
        augmentation: Augmentation = PRESETS["none"],
        seed: int = 0,
        shuffle: bool = True,
        balance: str | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
    ):
        self.source = source
        height, width = size
        self._size = height, width
        targets = np.asarray(targets)
        self.examples = len(targets)
        indices = np.arange(len(source)) if indices is None else np.asarray(indices)
        self._classes = _check(source, indices, targets, self._size, batch_size, classes, augmentation, seed, balance)
        self.steps = math.ceil(self.examples / batch_size)
        self._batch_size, self._augmentation, self._seed = batch_size, augmentation, seed
        self._order = order.order_of(targets, seed, shuffle, balance)
        self._images = _make_image_reader(source, indices)
        self._targets = _make_target_reader(targets, self._classes)
        self._weights = order.class_weights(order.labels_of(targets), self._classes) if balance == "weights" else None
        self._static_batch_size = batch_size if self.examples % batch_size == 0 else None

    def __call__(self, epoch: int | tf.Tensor = 0, step: int | tf.Tensor = 0) -> tf.data.Dataset:
        """The batches of an epoch, counted from 0, starting at a step; both may be int64 tensors."""
        epoch = tf.cast(epoch, tf.int64)
        examples = self._order(epoch)

        @without_autograph
        def batch(step: tf.Tensor) -> tuple:
            first = step * self._batch_size
            return self._batch(epoch, first, examples[first : first + self._batch_size])

        steps = tf.data.Dataset.range(tf.cast(step, tf.int64), self.steps)
        dataset = steps.map(batch, num_parallel_calls=PARALLEL, deterministic=True).prefetch(PARALLEL)
        return dataset.with_options(dataset_options())

    def epochs(self, count: int, start: int = 0) -> tf.data.Dataset:
        """The batches of `count` epochs from `start` on, one after another: for `fit(..., steps_per_epoch=batches.steps)`."""
        dataset = tf.data.Dataset.range(start, start + count).flat_map(without_autograph(self))
        return dataset.apply(tf.data.experimental.assert_cardinality(count * self.steps)).with_options(
            dataset_options()
        )

    def _batch(self, epoch: tf.Tensor, first: tf.Tensor, examples: tf.Tensor) -> tuple:
        """The batch of these examples, of which the first has index `first` in the epoch."""
        examples = tf.ensure_shape(examples, (self._static_batch_size,))
        indices_in_epoch = first + tf.range(tf.size(examples, tf.int64))
        images, targets = self._images(examples), self._targets(examples)
        batch = augment_batch(images, targets, self._size, self._augmentation, self._seed, epoch, indices_in_epoch)
        return batch if self._weights is None else (*batch, tf.linalg.matvec(batch[1], self._weights))


def _check(
    source: np.ndarray | ImageFiles,
    indices: np.ndarray,
    targets: np.ndarray,
    size: tuple[int, int],
    batch_size: int,
    classes: int | None,
    augmentation: Augmentation,
    seed: int,
    balance: str | None,
) -> int:
    """The number of classes, if the arguments of `ImageBatches` fit together."""
    arguments.integer("ImageBatches", "batch_size", batch_size)
    arguments.integer("ImageBatches", "examples", len(targets))
    arguments.integer("ImageBatches", "seed", seed, 0)
    arguments.one_of("ImageBatches", "balance", balance, (None, "sampling", "weights"))
    shape = (len(targets), *augmentation.stored_size(size), 3)
    if (len(indices), *source.shape[1:]) != shape or source.dtype != np.uint8:
        expected = f"uint8 {shape}, one image per target"
        received = f"{source.dtype} {(len(indices), *source.shape[1:])}"
        raise ValueError(arguments.message("ImageBatches", "source", expected, received))
    if targets.ndim == 2:
        return targets.shape[1]
    if classes is None or not 0 <= targets.min() <= targets.max() < classes:
        expected = "class numbers from 0 to `classes` - 1, or one row of numbers per example"
        received = f"{targets.min()} to {targets.max()}, classes={classes}"
        raise ValueError(arguments.message("ImageBatches", "targets", expected, received))
    return classes


def _make_image_reader(source: np.ndarray | ImageFiles, indices: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function of a tensor of examples that gives their images: those of `source` at `indices`."""
    indices = tf.constant(indices, tf.int64)
    if isinstance(source, ImageFiles):
        return lambda examples: source.read(tf.gather(indices, examples))
    array = as_tensor(source)
    return lambda examples: tf.gather(array, tf.gather(indices, examples))


def as_tensor(array: np.ndarray) -> tf.Tensor:
    """An array as a tensor, without a copy if possible."""
    # An array that is mapped from the disk is shared instead of read into memory. TensorFlow needs it aligned as here.
    can_share = array.flags.writeable and array.flags.c_contiguous and array.ctypes.data % ALIGNMENT == 0
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__()) if can_share else tf.constant(array)


def _make_target_reader(targets: np.ndarray, classes: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function of a tensor of examples that gives their targets, `(examples, classes)`."""
    if targets.ndim == 2:
        array = tf.constant(targets, tf.float32)
        return lambda examples: tf.gather(array, examples)
    labels = tf.constant(targets, tf.int64)
    return lambda examples: tf.one_hot(tf.gather(labels, examples), classes)


def dataset_options() -> tf.data.Options:
    """Options of a dataset that reads from arrays in memory."""
    options = tf.data.Options()
    # To rewrite the pipeline, TensorFlow would copy all images into it.
    options.experimental_optimization.apply_default_optimizations = False
    return options
