"""Examples from arrays, TFRecords and datasets. Each source yields tuples of image, label, split, group."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from pipelines.catalog.splits import SPELLINGS
from pipelines.errors import InputError

CHANNELS = (1, 3, 4)
Classes = Sequence[str] | None
Example = tuple[np.ndarray | bytes, str | tuple[str, ...], str, str]


def from_arrays(
    images: Any, labels: Any, classes: Classes, split: Sequence[str] | None, group: Sequence[object] | None
) -> Iterator[Example]:
    """See `Catalog.from_arrays`."""
    shape, dtype = np.shape(images), getattr(images, "dtype", None)
    if dtype != np.uint8 or len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in CHANNELS) or not shape[0]:
        raise _not_images(f"{dtype} {shape}", '(images * 255).round().astype("uint8") if values are from 0 to 1')
    columns = {"labels": labels, "split": split, "group": group}
    for name, column in columns.items():
        if column is not None and len(column) != len(images):
            raise InputError(
                f"{name} must have one entry per image. Received: {len(column)} entries and {len(images)} images."
            )
    blank = [""] * len(images)
    splits = blank if split is None else [parse_split(str(name)) for name in split]
    groups = blank if group is None else map(str, group)
    names = [_class_name(label, classes) for label in np.asarray(labels)]
    yield from zip(images, names, splits, groups, strict=True)


def from_dataset(dataset: Any, classes: Classes) -> Iterator[Example]:
    """See `Catalog.from_dataset`."""
    for split, part in _by_split(dataset):
        for image, label in _pairs(part):
            yield image, _class_name(label, classes), split, ""


def from_tfrecord(
    files: Any, image: str, label: str, split: str | None, group: str | None, classes: Classes
) -> Iterator[Example]:
    """See `Catalog.from_tfrecord`."""
    features = [name for name in (image, label, split, group) if name]
    for official, patterns in _by_split(files):
        for file in _find_files(patterns):
            for number, record in enumerate(_records(file)):
                where = f"record {number} of {file}"
                values = {name: _feature(record, name, where) for name in features}
                if not isinstance(values[image], bytes):
                    raise InputError(
                        f"The image feature must be the bytes of an image file. Received: {image!r} of {where}."
                    )
                own = parse_split(_text(values[split])) if split else official
                yield values[image], _class_name(values[label], classes), own, _text(values[group]) if group else ""


def from_tfds(name: str, data_dir: str | os.PathLike | None, image: str, label: str) -> Iterator[Example]:
    """See `Catalog.from_tfds`."""
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise InputError(
            f'TFDS needs tensorflow-datasets, which is not installed. Received: {name}. Run: pip install "keras-cnn[tfds]"'
        ) from None
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise InputError(f"TFDS has no dataset {name!r}: {str(error).splitlines()[0]}") from None
    features = builder.info.features
    for key in (image, label):
        if key not in features:
            raise InputError(
                f"The dataset {name} has no feature {key!r}. Received: {', '.join(features)}. Use one of these."
            )
    try:
        builder.download_and_prepare()
    except (OSError, ImportError) as error:
        raise InputError(f"TFDS cannot prepare {name}: {str(error).splitlines()[0]}") from None
    classes = getattr(features[label], "names", None)
    labelled = [split for split in builder.info.splits if split in SPELLINGS] or list(builder.info.splits)
    for split in labelled:
        decoders = {image: tfds.decode.SkipDecoding()}
        for example in builder.as_dataset(split=split, decoders=decoders).as_numpy_iterator():
            yield example[image], _class_name(example[label], classes), SPELLINGS.get(split, ""), ""


def parse_split(name: str) -> str:
    """The split that a name such as "val" means; "" for ""."""
    split = SPELLINGS.get(name.lower(), "" if not name else None)
    if split is None:
        raise InputError(f"A split must be train, validation or test. Received: {name!r}. Rename it.")
    return split


def _by_split(source: Any) -> list[tuple[str, Any]]:
    """Pairs of split and source, from a dict of these, or from one source without a split."""
    if not isinstance(source, Mapping):
        return [("", source)]
    return [(parse_split(name), part) for name, part in source.items()]


def _class_name(label: Any, classes: Classes) -> str | tuple[str, ...]:
    """The class name of a class number or a text; a tuple of names for a row of 0 and 1."""
    label = np.asarray(label)
    if label.size == 1 and label.dtype.kind in "OSU":
        return _text(label.item())
    if label.size == 1 and label.dtype.kind in "iub" and (classes is None or 0 <= label.item() < len(classes)):
        return str(int(label.item()) if classes is None else classes[int(label.item())])
    if label.ndim == 1 and label.size > 1 and np.isin(label, (0, 1)).all() and len(classes or label) == len(label):
        return tuple(str(number if classes is None else classes[number]) for number in np.flatnonzero(label).tolist())
    expected = "a class number, a text, or a row of 0 and 1 with one entry per class"
    known = f" of {len(classes)} classes" if classes is not None else ""
    raise InputError(f"A label{known} must be {expected}. Received: {label.tolist()!r:.100}.")


def _text(value: object) -> str:
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        raise InputError(f"A label must be text in UTF-8. Received: {value!r:.100}.") from None


def _pairs(dataset: Any) -> Iterator[tuple[Any, Any]]:
    """The pairs of image and label of a dataset, whether it is batched or not."""
    spec = getattr(dataset, "element_spec", None)
    if not isinstance(spec, tuple) or len(spec) != 2 or not all(isinstance(part, tf.TensorSpec) for part in spec):
        raise InputError(
            f"A dataset must have elements (image, label), pairs of tensors. Received: {spec}. Map it to these."
        )
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError("A dataset must be finite. Received: one that repeats forever. Remove repeat().")
    image, rank = spec[0], spec[0].shape.rank
    if (image.dtype, rank) in ((tf.string, 1), (tf.uint8, 4)):
        dataset = dataset.unbatch()
    elif (image.dtype, rank) not in ((tf.string, 0), (tf.uint8, 3)):
        raise _not_images(
            f"{image.dtype.name} {image.shape}", "dataset.map(lambda x, y: (tf.cast(tf.round(x), tf.uint8), y))"
        )
    for image, label in dataset.as_numpy_iterator():
        if not isinstance(image, bytes) and image.shape[2] not in CHANNELS:
            raise _not_images(f"uint8 {image.shape}", "remove or merge channels")
        yield image, label


def _not_images(received: str, remedy: str) -> InputError:
    expected = "uint8 images from 0 to 255 with 1, 3 or 4 channels, or the bytes of files"
    return InputError(f"The source must have {expected}. Received: {received}. Convert them first: {remedy}.")


def _find_files(patterns: Any) -> list[str]:
    found: list[str] = []
    for pattern in [patterns] if isinstance(patterns, (str, os.PathLike)) else patterns:
        matches = sorted(glob.glob(os.fspath(pattern))) or [os.fspath(pattern)] * os.path.isfile(pattern)
        if not matches:
            raise InputError(
                f"A TFRecord must be a file, or a pattern of files. Received: {pattern}, which does not exist."
            )
        found += matches
    return found


def _records(file: str) -> Iterator[Mapping[str, Any]]:
    """The records of a file as dicts of features."""
    try:
        with open(file, "rb") as opened:
            compression = "GZIP" if opened.read(2) == b"\x1f\x8b" else ""
        for record in tf.data.TFRecordDataset(file, compression).as_numpy_iterator():
            yield tf.train.Example.FromString(record).features.feature
    except (tf.errors.OpError, OSError, DecodeError) as error:
        reason = str(getattr(error, "message", None) or error).splitlines()[0]
        raise InputError(f"{file} cannot be read as a TFRecord of tf.train.Example: {reason}") from None


def _feature(record: Mapping[str, Any], name: str, where: str) -> Any:
    """The single value of a feature, bytes or a number."""
    if name not in record:
        raise InputError(
            f"There is no feature {name!r} in {where}. Received: {', '.join(sorted(record))}. Use one of these."
        )
    kind = record[name].WhichOneof("kind")
    values = getattr(record[name], kind).value if kind else []
    if len(values) != 1:
        raise InputError(f"The feature {name!r} must have one value. Received: {len(values)} in {where}.")
    return values[0]
