"""Data that begin at any epoch and step, in the order that they would have had."""

from __future__ import annotations

import inspect

import keras
import tensorflow as tf
from keras import tree

from keras_cnn import arguments


def source(dataset):
    """What `ExactResume` needs of a data set of one of three kinds; see `ExactResume.data`."""
    if isinstance(dataset, tf.data.Dataset):
        return _Dataset(dataset)
    if isinstance(dataset, keras.utils.PyDataset):
        return _PyDataset(dataset)
    if callable(dataset) and len(inspect.signature(dataset).parameters) == 2:
        return _Function(dataset)
    expected = "a tf.data.Dataset, a keras.utils.PyDataset, or a function of epoch and step"
    raise ValueError(arguments.message("ExactResume.data", "dataset", expected, dataset))


class _Stream:
    """A `tf.data.Dataset` whose next iterator begins at a position.

    Attributes:
        dataset: For `fit`.
    """

    def __init__(self):
        self._epoch, self._step = tf.Variable(0, dtype=tf.int64), tf.Variable(0, dtype=tf.int64)
        # The position is read when the first batch is asked for, not when Keras makes an iterator.
        rest = tf.autograph.experimental.do_not_convert(lambda _: self._rest())
        self.dataset = tf.data.Dataset.from_tensors(0).flat_map(rest)
        whole = self._cardinality()
        if whole > 0:  # so that the bar knows its end; steps that are left out count, and ask for no batch
            self.dataset = self.dataset.apply(tf.data.experimental.assert_cardinality(whole))

    def example(self):
        """A batch without content, of the right shapes."""
        return tree.map_structure(
            lambda spec: keras.KerasTensor(tuple(spec.shape), keras.backend.standardize_dtype(spec.dtype)),
            self.dataset.element_spec,
        )

    def next_epoch(self):
        """The current epoch is over."""
        self._epoch.assign_add(1)
        self._step.assign(0)

    def move(self, epoch, step):
        """Begin there."""
        self._epoch.assign(epoch)
        self._step.assign(step)

    @property
    def description(self):
        """What two runs must have in common."""
        return {"elements": str(self.dataset.element_spec), "batches": int(self._cardinality())}


class _Dataset(_Stream):
    def __init__(self, dataset):
        self._whole = dataset
        super().__init__()

    def _rest(self):
        return self._whole.skip(self._step)

    def _cardinality(self):
        return self._whole.cardinality().numpy()

    def move(self, epoch, step):
        super().move(epoch, step)
        # Each iterator draws the next order from the seed; nothing is read. `fit` makes none for an epoch without batches.
        for _ in range(epoch + (0 < self._cardinality() <= step)):
            iter(self._whole)


class _Function(_Stream):
    def __init__(self, batches):
        self._batches = batches
        super().__init__()

    def _rest(self):
        return self._batches(self._epoch.read_value(), self._step.read_value())

    def _cardinality(self):
        zero = tf.constant(0, tf.int64)
        return self._batches(zero, zero).cardinality().numpy()


class _PyDataset(_Stream):
    def __init__(self, dataset):
        self._whole = dataset
        super().__init__()

    def _rest(self):
        def batches(step):
            yield from (self._whole[index] for index in range(step, len(self._whole)))

        spec = tree.map_structure(lambda x: tf.TensorSpec((None, *x.shape[1:]), x.dtype), self._whole[0])
        return tf.data.Dataset.from_generator(batches, args=(self._step,), output_signature=spec)

    def _cardinality(self):
        return len(self._whole)

    def next_epoch(self):
        super().next_epoch()
        self._whole.on_epoch_end()

    def move(self, epoch, step):
        super().move(epoch, step)
        for _ in range(epoch):
            self._whole.on_epoch_end()
