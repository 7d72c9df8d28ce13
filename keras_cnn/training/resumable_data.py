"""Data that begin at any epoch and step, in the order that they would have had."""

from __future__ import annotations

import hashlib
import inspect
from itertools import islice

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from keras_cnn import arguments

# Of the data so much is looked at to know them again.
ELEMENTS = 256
BYTES = 2**23
SAMPLES = 64
# Data behind these draw another order, or write files, each time that they are read.
NOT_STILL = ("Shuffle", "Cache", "Snapshot", "Save")


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
        specification = str(self.dataset.element_spec)
        return {"elements": specification, "batches": int(self._cardinality()), "values": _known_by(self._first())}


class _Dataset(_Stream):
    def __init__(self, dataset):
        self._whole = dataset
        super().__init__()

    def _rest(self):
        return self._whole.skip(self._step)

    def _first(self):
        return [_numpy(dataset) for dataset in _still(self._whole)]

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

    def _first(self):
        return [_numpy(self._from_the_beginning())]

    def _cardinality(self):
        return self._from_the_beginning().cardinality().numpy()

    def _from_the_beginning(self):
        zero = tf.constant(0, tf.int64)
        return self._batches(zero, zero)


class _PyDataset(_Stream):
    def __init__(self, dataset):
        self._whole = dataset
        super().__init__()

    def _rest(self):
        def batches(step):
            yield from (self._whole[index] for index in range(step, len(self._whole)))

        spec = tree.map_structure(lambda x: tf.TensorSpec((None, *x.shape[1:]), x.dtype), self._whole[0])
        return tf.data.Dataset.from_generator(batches, args=(self._step,), output_signature=spec)

    def _first(self):
        return [(tree.flatten(self._whole[index]) for index in range(len(self._whole)))]

    def _cardinality(self):
        return len(self._whole)

    def next_epoch(self):
        super().next_epoch()
        self._whole.on_epoch_end()

    def move(self, epoch, step):
        super().move(epoch, step)
        for _ in range(epoch):
            self._whole.on_epoch_end()


def _still(dataset):
    """The last data sets on the way to this one that are the same each time they are read: those before it is shuffled."""
    found = [dataset]
    for before in found:  # it grows
        found += before._inputs()
    if not any(word in type(one).__name__ for one in found for word in NOT_STILL):
        return [dataset]
    return [still for before in dataset._inputs() for still in _still(before)]


def _numpy(dataset):
    """The parts of each element as arrays."""
    for element in dataset.take(ELEMENTS):
        yield [part.numpy() for part in tf.nest.flatten(element, expand_composites=True)]


def _known_by(streams):
    """For each part of the elements of each stream what its first values are."""
    columns = [column for stream in streams for column in zip(*_at_most(stream, BYTES), strict=True)]
    return {str(number): _values(column) for number, column in enumerate(columns)}


def _at_most(elements, size):
    for element in islice(elements, ELEMENTS):
        element = [np.asarray(part) for part in element]
        yield element
        size -= sum(part.nbytes for part in element)
        if size <= 0:
            return


def _values(parts):
    """A digest where nothing is rounded: classes, names, pixels. Of other numbers a sample, which may differ a little."""
    if parts[0].dtype.kind not in "fV":  # V: bfloat16
        return _digest(parts)
    flat = np.concatenate([np.ravel(part) for part in parts]).astype("float64")
    if (flat == np.round(flat)).all():  # one-hot, say
        return _digest([flat])
    return flat[np.linspace(0, len(flat) - 1, SAMPLES).astype(int)].tolist()


def _digest(parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"\0".join(map(bytes, part.ravel().tolist())) if part.dtype == object else part.tobytes())
    return digest.hexdigest()[:16]
