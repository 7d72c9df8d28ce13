"""Data that begin at any epoch and step, in the order of an uninterrupted job."""

from __future__ import annotations

import hashlib
import inspect
from itertools import islice
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from keras_cnn import arguments
from keras_cnn.autograph import without_autograph

# How much of the data is read to recognise them.
ELEMENTS = 256
BYTES = 2**23
SAMPLES = 64
# A data set after one of these differs, or writes files, each time that it is read.
CHANGING = ("Shuffle", "Cache", "Snapshot", "Save")


def source(dataset: Any) -> _Stream:
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
        rest = without_autograph(lambda _: self._rest())
        self.dataset = tf.data.Dataset.from_tensors(0).flat_map(rest)
        batches = self._cardinality()
        if batches > 0:  # for the progress bar; skipped steps count, and read no batch
            self.dataset = self.dataset.apply(tf.data.experimental.assert_cardinality(batches))

    def example(self):
        """A symbolic batch."""
        return tree.map_structure(
            lambda spec: keras.KerasTensor(tuple(spec.shape), keras.backend.standardize_dtype(spec.dtype)),
            self.dataset.element_spec,
        )

    def next_epoch(self):
        """Move to the first step of the next epoch."""
        self._epoch.assign_add(1)
        self._step.assign(0)

    def move(self, epoch, step):
        """Move to an epoch and step."""
        self._epoch.assign(epoch)
        self._step.assign(step)

    @property
    def description(self):
        """What must be the same in two runs."""
        specification = str(self.dataset.element_spec)
        return {"elements": specification, "batches": int(self._cardinality()), "values": _fingerprints(self._first())}


class _Dataset(_Stream):
    def __init__(self, dataset):
        self._data = dataset
        super().__init__()

    def _rest(self):
        return self._data.skip(self._step)

    def _first(self):
        return [_numpy(dataset) for dataset in _unchanging(self._data)]

    def _cardinality(self):
        return self._data.cardinality().numpy()

    def move(self, epoch, step):
        super().move(epoch, step)
        # Each iterator draws the next order from the seed, and reads nothing. `fit` makes none for an epoch without batches.
        for _ in range(epoch + (0 < self._cardinality() <= step)):
            iter(self._data)


class _Function(_Stream):
    def __init__(self, batches):
        self._batches = batches
        super().__init__()

    def _rest(self):
        return self._batches(self._epoch.read_value(), self._step.read_value())

    def _first(self):
        return [_numpy(self._from_start())]

    def _cardinality(self):
        return self._from_start().cardinality().numpy()

    def _from_start(self):
        zero = tf.constant(0, tf.int64)
        return self._batches(zero, zero)


class _PyDataset(_Stream):
    def __init__(self, dataset):
        self._data = dataset
        super().__init__()

    def _rest(self):
        def batches(step):
            yield from (self._data[index] for index in range(step, len(self._data)))

        spec = tree.map_structure(lambda x: tf.TensorSpec((None, *x.shape[1:]), x.dtype), self._data[0])
        return tf.data.Dataset.from_generator(batches, args=(self._step,), output_signature=spec)

    def _first(self):
        return [(tree.flatten(self._data[index]) for index in range(len(self._data)))]

    def _cardinality(self):
        return len(self._data)

    def next_epoch(self):
        super().next_epoch()
        self._data.on_epoch_end()

    def move(self, epoch, step):
        super().move(epoch, step)
        for _ in range(epoch):
            self._data.on_epoch_end()


def _unchanging(dataset):
    """The last data sets upstream of this one, or itself, that are the same each time they are read."""
    upstream = [dataset]
    for one in upstream:  # grows in the loop
        upstream += one._inputs()
    if not any(word in type(one).__name__ for one in upstream for word in CHANGING):
        return [dataset]
    return [found for one in dataset._inputs() for found in _unchanging(one)]


def _numpy(dataset):
    """The parts of each element as arrays."""
    for element in dataset.take(ELEMENTS):
        yield [part.numpy() for part in tf.nest.flatten(element, expand_composites=True)]


def _fingerprints(streams):
    """The first values of each part of the elements of each stream."""
    columns = [column for stream in streams for column in zip(*_first_bytes(stream, BYTES), strict=True)]
    return {str(index): _values(column) for index, column in enumerate(columns)}


def _first_bytes(elements, size):
    for element in islice(elements, ELEMENTS):
        element = [np.asarray(part) for part in element]
        yield element
        size -= sum(part.nbytes for part in element)
        if size <= 0:
            return


def _values(parts):
    """A digest of exact values: classes, names, pixels. Of other numbers a sample, which is compared with a tolerance."""
    if parts[0].dtype.kind not in "fV":  # V: bfloat16
        return _digest(parts)
    flat = np.concatenate([np.ravel(part) for part in parts]).astype("float64")
    if (flat == np.round(flat)).all():  # for example one-hot
        return _digest([flat])
    return flat[np.linspace(0, len(flat) - 1, SAMPLES).astype(int)].tolist()


def _digest(parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"\0".join(map(bytes, part.ravel().tolist())) if part.dtype == object else part.tobytes())
    return digest.hexdigest()[:16]
