"""The catalog itself: image files with label, split, group, and the reason for every file that is excluded."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from keras_cnn.arguments import is_one_line
from pipelines.catalog import csv_and_parquet, folders, image_store, splits
from pipelines.catalog.csv_and_parquet import COLUMNS, LABEL_PREFIX
from pipelines.errors import InputError
from pipelines.names import to_cell

if TYPE_CHECKING:
    import tensorflow as tf

MIN_CLASS_SIZE = 2


@dataclass(frozen=True)
class Catalog:
    """A table of image files. Each column is a tuple with one entry per file.

    Attributes:
        paths: As given by the source; absolute or relative to the working directory.
        labels: The name of the class, "" if a file has none. Multi-label: a tuple with any number of names.
        splits: "train", "validation" or "test"; "" before `split`, and for excluded files.
        groups: Files of one group stay in one split, such as photos of one patient; "" for none.
        exclusion_reasons: Why a file is excluded; "" for files that are included.
        root: The folder that file names are relative to when a split is drawn from them. So the split does not depend on where
            the folder is.
    """

    paths: tuple[str, ...]
    labels: tuple[str | tuple[str, ...], ...]
    splits: tuple[str, ...]
    groups: tuple[str, ...]
    exclusion_reasons: tuple[str, ...]
    root: str = ""

    @classmethod
    def from_folder(cls, directory: str | os.PathLike, class_folder: str = "first") -> Catalog:
        """Images in a folder that has one folder per class.

        If the first level has a folder `train` and a folder `val` or `test` (also `training`, `valid`, `validation`, `dev`,
        `testing`; upper or lower case), these are the official splits, and the classes are below. Hidden files and folders are
        skipped. Files that are no images are listed with a reason. Links are followed, except in a circle.

        Args:
            directory: A path.
            class_folder: Which folder names the class if folders are nested: the "first" one on the way to a file, or the
                "last" one.

        Raises:
            InputError: If the folder is missing or cannot be read, or it or a class in it has no images.
        """
        directory = os.fspath(directory)
        paths, labels, official, reasons = zip(*folders.rows(directory, class_folder), strict=True)
        included_splits = tuple("" if reason else split for split, reason in zip(official, reasons, strict=True))
        return cls(paths, labels, included_splits, ("",) * len(paths), reasons, directory)

    @classmethod
    def from_csv(
        cls,
        table: str | os.PathLike,
        label: str | tuple[str, ...] | None = None,
        split: str | None = None,
        group: str | None = None,
        path: str = "path",
        root: str | os.PathLike | None = None,
    ) -> Catalog:
        """Files listed in a table: CSV in UTF-8 (comma, semicolon or tab), or Parquet if `pyarrow` is installed.

        Each line is one file; the first line names the columns. From the `runs/N/catalog.csv` of a job this gives the same rows
        and splits again.

        Args:
            table: A path.
            label: The column with the name of the class. Several columns of 0 and 1: multi-label, and their names are the
                classes. None: "label".
            split: The column with the official split (train, validation, test; spelled as in `from_folder`). Lines without one
                are drawn. None: "split" if there is such a column.
            group: The column with the group: files of one group stay in one split. None: "group" if there is such a column.
            path: The column with the path of the file.
            root: The folder that paths are relative to. None: the folder of the table.

        Raises:
            InputError: If the table cannot be read, a column, file or label is missing, or a file has two lines.
        """
        root = os.path.dirname(os.fspath(table)) if root is None else os.fspath(root)
        rows = csv_and_parquet.rows(os.fspath(table), path, label, split, group, root)
        paths, labels, splits, groups, reasons = _columns(rows)
        return cls(paths, labels, splits, groups, reasons, root)

    @classmethod
    def from_arrays(
        cls,
        images: npt.ArrayLike,
        labels: npt.ArrayLike,
        classes: Sequence[str] | None = None,
        split: Sequence[str] | None = None,
        group: Sequence[object] | None = None,
        directory: str | os.PathLike | None = None,
    ) -> Catalog:
        """Images in memory. They are stored as PNG files, once.

        Args:
            images: Uint8 `(examples, height, width)` or `(examples, height, width, channels)`, 1, 3 or 4 channels.
            labels: `(examples,)` class numbers or names, or `(examples, classes)` of 0 and 1: one-hot or multi-label.
            classes: The names of the classes, by number; None for "0", "1" and so on.
            split: For each image its official split or ""; None to draw all splits.
            group: For each image its group or ""; None for no groups.
            directory: Where to store the files; None: `images` in the cache folder (`KERAS_CNN_CACHE`). They are not removed.

        Raises:
            InputError: If the arrays are different, or `directory` cannot be written.
        """
        from pipelines.catalog import arrays_and_records

        return cls._from_examples(arrays_and_records.from_arrays(images, labels, classes, split, group), directory)

    @classmethod
    def from_dataset(
        cls,
        dataset: tf.data.Dataset | Mapping[str, tf.data.Dataset],
        classes: Sequence[str] | None = None,
        directory: str | os.PathLike | None = None,
    ) -> Catalog:
        """A `tf.data.Dataset` of pairs (image, label), batched or not. The images are stored as files, once.

        Args:
            dataset: A finite dataset, or a dict with one per split. Images are uint8 with 1, 3 or 4 channels, or the bytes of
                image files.
            classes: As in `from_arrays`.
            directory: As in `from_arrays`.

        Raises:
            InputError: If the dataset has other elements.
        """
        from pipelines.catalog import arrays_and_records

        return cls._from_examples(arrays_and_records.from_dataset(dataset, classes), directory)

    @classmethod
    def from_tfrecord(
        cls,
        files: str | os.PathLike | Iterable[str | os.PathLike] | Mapping[str, str | os.PathLike | Iterable],
        image: str,
        label: str,
        split: str | None = None,
        group: str | None = None,
        classes: Sequence[str] | None = None,
        directory: str | os.PathLike | None = None,
    ) -> Catalog:
        """TFRecords of `tf.train.Example`, plain or compressed with gzip. The images are stored as files, once.

        Args:
            files: A path or pattern such as "data/train-*", a list of these, or a dict of these by split.
            image: The feature with the bytes of an image file.
            label: The feature with the class number or name.
            split: The feature with the official split; None for none.
            group: The feature with the group; None for none.
            classes: As in `from_arrays`.
            directory: As in `from_arrays`.

        Raises:
            InputError: If a file or a feature is missing or damaged.
        """
        from pipelines.catalog import arrays_and_records

        examples = arrays_and_records.from_tfrecord(files, image, label, split, group, classes)
        return cls._from_examples(examples, directory)

    @classmethod
    def from_tfds(
        cls,
        name: str,
        data_dir: str | os.PathLike | None = None,
        image: str = "image",
        label: str = "label",
        directory: str | os.PathLike | None = None,
    ) -> Catalog:
        """A dataset of TensorFlow Datasets, downloaded if necessary. Its images are stored as files, once. Needs
        `keras-cnn[tfds]`.

        Args:
            name: Such as "tf_flowers".
            data_dir: Where TFDS stores its data; None: TFDS' default.
            image: The feature with the image.
            label: The feature with the label.
            directory: As in `from_arrays`.

        Raises:
            InputError: If TFDS is not installed, or has no such dataset or feature.
        """
        from pipelines.catalog import arrays_and_records

        return cls._from_examples(arrays_and_records.from_tfds(name, data_dir, image, label), directory)

    @classmethod
    def _from_examples(cls, examples: Iterable[tuple], directory: str | os.PathLike | None) -> Catalog:
        directory = image_store.default_directory() if directory is None else os.fspath(directory)
        paths, labels, official, groups = _columns(image_store.store_images(examples, directory)) or ((),) * 4
        if all(isinstance(label, tuple) and len(label) == 1 for label in labels):
            labels = tuple(label[0] for label in labels)  # one-hot
        return cls(paths, labels, official, groups, ("",) * len(paths), directory)

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels, or none."""
        return any(isinstance(label, tuple) for label in self.labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes with included files, in the order of a network's outputs: sorted as numbers if all are
        numbers, otherwise as texts."""
        rows = zip(self.labels, self.exclusion_reasons, strict=True)
        found = {name for label in {label for label, reason in rows if not reason} for name in _names(label)}
        numbers = all(name.isascii() and name.isdecimal() for name in found)
        return tuple(sorted(found, key=lambda name: (int(name), name) if numbers else name))

    def classes_of(self, index: int) -> tuple[str, ...]:
        """The classes of one file: one, several, or none."""
        return _names(self.labels[index])

    def included(self, split: str | None = None) -> np.ndarray:
        """The indices of the files that are not excluded, of one split or of all."""
        rows = zip(self.exclusion_reasons, self.splits, strict=True)
        return np.array([index for index, (reason, own) in enumerate(rows) if not reason and split in (None, own)], int)

    def targets(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The class numbers of the files at these indices, `(files,)`; multi-label: `(files, classes)` of 0 and 1."""
        numbers: dict[str | tuple[str, ...], int] = {name: number for number, name in enumerate(self.classes)}
        if not self.multi_label:
            return np.array([numbers[self.labels[index]] for index in indices], int)
        targets = np.zeros((len(indices), len(numbers)), int)
        for target, index in zip(targets, indices, strict=True):
            target[[numbers[name] for name in self.labels[index]]] = 1
        return targets

    def exclude(self, reasons: Mapping[int, str]) -> Catalog:
        """The same catalog without the files at the keys of `reasons`; the values say why."""
        found = tuple(reasons.get(index, reason) for index, reason in enumerate(self.exclusion_reasons))
        return replace(self, exclusion_reasons=found)

    def check(self) -> Catalog:
        """This catalog, if a classifier can be trained on it.

        Raises:
            InputError: If there are fewer than two classes, a class has fewer than two readable images, or no class has three.
        """
        odd = [label for label in self.classes if not is_one_line(label)]
        if odd:
            raise InputError(f"The name of a class must be valid text of one line. Received: {odd[0]!r}. Rename it.")
        counts = Counter({name: 0 for label in self.labels for name in _names(label)})
        counts.update(name for index in self.included() for name in self.classes_of(index))
        if len(counts) < 2:
            raise InputError(f"A classifier needs at least two classes. Received: {len(counts)}, {', '.join(counts)}.")
        small = [f"{label!r} has {counts[label]}" for label in sorted(counts) if counts[label] < MIN_CLASS_SIZE]
        if small:
            reasons = sorted({reason for reason in self.exclusion_reasons if reason})
            excluded = f" Excluded files: {'; '.join(reasons[:3])}." if reasons else ""
            raise InputError(
                f"Each class needs at least {MIN_CLASS_SIZE} readable images. Received: {', '.join(small[:10])}.{excluded} "
                "Add images or remove the class."
            )
        if max(counts.values()) <= MIN_CLASS_SIZE:
            raise InputError(
                "At least one class needs three readable images: one for training, one for validation, one for the test. "
                f"Received: {MIN_CLASS_SIZE} in every class. Add images."
            )
        return self

    def split(self, seed: int = 0) -> Catalog:
        """Assign a split to each included file, with about the same shares of every class.

        The split depends on a hash of `seed` and the group or path alone. Official splits stay; a split that the source lacks
        is drawn from "train". `pipelines.catalog.splits` explains the rule: a file keeps its split when others are added or
        removed, and a class with three files has one in each split.

        Raises:
            InputError: If a group has two official splits, a class has no training image, or a split has no image.
        """
        indices = self.included()
        numbers = {name: number for number, name in enumerate(self.classes)}
        classes = {label: [numbers[name] for name in _names(label) if name in numbers] for label in set(self.labels)}
        relative = splits.relative_to(self.root)
        units = [self.groups[index] or relative(self.paths[index]) for index in indices]
        class_numbers = [classes[self.labels[index]] for index in indices]
        drawn = splits.draw(units, class_numbers, [self.splits[index] for index in indices], seed)
        found = [""] * len(self.paths)
        for index, split in zip(indices, drawn, strict=True):
            found[index] = split
        return replace(self, splits=tuple(found))._check_splits()

    def to_csv(self, path: str | os.PathLike, fingerprints: Sequence[int | str] | None = None) -> None:
        """Write the table with the columns path (absolute), label, split, group, reason.

        Multi-label: one column "label:CLASS" of 0 and 1 per class follows. Cells that a spreadsheet would compute begin with an
        apostrophe (`pipelines.names.to_cell`). `from_csv` reads the table again.

        Args:
            path: The file to write.
            fingerprints: For each file a number that stands for its content, or ""; None for no such column.
        """
        label_columns = self.classes if self.multi_label else ()
        last_column = [] if fingerprints is None else [csv_and_parquet.FINGERPRINT]
        last_cells = [[] for _ in self.paths] if fingerprints is None else [[cell] for cell in fingerprints]
        with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file)
            writer.writerow((*COLUMNS, *(LABEL_PREFIX + name for name in label_columns), *last_column))
            columns = (self.paths, self.labels, self.splits, self.groups, self.exclusion_reasons)
            for (name, label, *rest), last in zip(zip(*columns, strict=True), last_cells, strict=True):
                cells = map(to_cell, (os.path.abspath(name), ", ".join(_names(label)), *rest))
                multi_hot = (int(class_name in label) for class_name in label_columns)
                writer.writerow((*cells, *multi_hot, *last))

    def _check_splits(self) -> Catalog:
        trained = {name for index in self.included("train") for name in self.classes_of(index)}
        missing = [name for name in self.classes if name not in trained]
        if missing:
            raise InputError(
                f"Each class needs a training image. Received: none of {missing[0]!r} in the split train. Add one, or "
                "remove the class."
            )
        for split in splits.SPLITS:
            indices = self.included(split)
            if not any(self.classes_of(index) for index in indices):
                expected = "an image with a label" if len(indices) else "an image"
                raise InputError(
                    f"Each split needs {expected}. Received: none for {split}. Add images, or use smaller groups."
                )
        return self


def _columns(rows: Iterable[tuple]) -> tuple:
    return tuple(zip(*rows, strict=True))


def _names(label: str | tuple[str, ...]) -> tuple[str, ...]:
    """The classes of a label: one, several, or none."""
    if isinstance(label, tuple):
        return label
    return (label,) if label else ()
