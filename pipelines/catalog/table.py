"""The table itself: image files with label, split, group, and the reason why one is left out."""

from __future__ import annotations

import csv
import os
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from keras_cnn.arguments import is_one_line
from pipelines.catalog import csv_and_parquet, folders, image_store, splits
from pipelines.catalog.csv_and_parquet import CLASS, COLUMNS
from pipelines.errors import InputError
from pipelines.names import to_cell

SMALLEST_CLASS = 2


@dataclass(frozen=True)
class Catalog:
    """A table of image files, one tuple entry a file in each column.

    Attributes:
        paths: As given by the source; absolute or relative to the working directory.
        labels: The name of the class, "" where a file has none. Multi-label: a tuple with any number of names.
        splits: "train", "validation", "test", or "" before `split` and for files that are left out.
        groups: Files of one group belong together, such as photos of one patient; "" for none.
        reasons: Why a file is left out, "" for those that are used.
        root: The folder that names of files are relative to when a split is drawn from them; so a split does not depend on
            where it lies.
    """

    paths: tuple[str, ...]
    labels: tuple[str | tuple[str, ...], ...]
    splits: tuple[str, ...]
    groups: tuple[str, ...]
    reasons: tuple[str, ...]
    root: str = ""

    @classmethod
    def from_folder(cls, folder, class_folder: str = "first") -> Catalog:
        """Images below `folder`, in a folder for each class.

        Where the first level is `train` beside `val` or `test` (also `training`, `valid`, `validation`, `dev`, `testing`; upper
        or lower case), these are the official splits, and the classes lie below. Hidden files and folders are passed over;
        files that are no images by their ending are listed with a reason. Links are followed, but not in a circle.

        Args:
            folder: A path.
            class_folder: Which folder of nested ones names the class: the "first" on the way to a file or the "last".

        Raises:
            InputError: If the folder is missing or cannot be read, or it or a class in it holds no images.
        """
        folder = os.fspath(folder)
        paths, labels, official, reasons = zip(*folders.rows(folder, class_folder), strict=True)
        used = tuple("" if reason else split for split, reason in zip(official, reasons, strict=True))
        return cls(paths, labels, used, ("",) * len(paths), reasons, folder)

    @classmethod
    def from_csv(
        cls,
        table,
        label: str | tuple[str, ...] | None = None,
        split: str | None = None,
        group: str | None = None,
        path: str = "path",
        root=None,
    ) -> Catalog:
        """Files that a table names: CSV in UTF-8 (comma, semicolon or tab), or Parquet if `pyarrow` is installed.

        Each line is a file; the first one names the columns. `runs/N/catalog.csv`, which a job writes, gives the same rows
        and splits again.

        Args:
            table: A path.
            label: The column with the name of the class. Several columns, each 0 or 1: multi-label, and their names are the
                classes. None: "label".
            split: The column with the official split (train, validation, test; spelt as in `from_folder`). Lines without one
                are drawn. None: "split" if there is such a column.
            group: The column of groups that no split may tear apart. None: "group" if there is such a column.
            path: The column with the path of the file.
            root: The folder that paths are relative to. None: the one in which the table lies.

        Raises:
            InputError: If the table cannot be read, a column, file or label is missing, or a file has two lines.
        """
        root = os.path.dirname(os.fspath(table)) if root is None else os.fspath(root)
        return cls(*_columns(csv_and_parquet.rows(os.fspath(table), path, label, split, group, root)), root)

    @classmethod
    def from_arrays(cls, images, labels, classes=None, split=None, group=None, folder=None) -> Catalog:
        """Images in memory; they become PNG files, once.

        Args:
            images: Uint8 `(examples, height, width)` or `(examples, height, width, channels)`, 1, 3 or 4 channels.
            labels: `(examples,)` class numbers or names, or `(examples, classes)` zeros and ones: one-hot or multi-label.
            classes: The names of the classes by number; None for "0", "1" and so on.
            split: For each image its official split or ""; None to draw them.
            group: For each image its group or ""; None for none.
            folder: Where the files are to lie; None: `images` in the cache folder (`KERAS_CNN_CACHE`). They are not removed.

        Raises:
            InputError: If the arrays are none of those, or `folder` cannot be written.
        """
        from pipelines.catalog import arrays_and_records

        return cls._kept(arrays_and_records.from_arrays(images, labels, classes, split, group), folder)

    @classmethod
    def from_dataset(cls, dataset, classes=None, folder=None) -> Catalog:
        """A `tf.data.Dataset` of pairs (image, label), batched or not; the images become files, once.

        Args:
            dataset: One that ends, or a dict of such by split. Images are uint8 with 1, 3 or 4 channels, or the bytes of files.
            classes: As in `from_arrays`.
            folder: As in `from_arrays`.

        Raises:
            InputError: If the data set gives anything else.
        """
        from pipelines.catalog import arrays_and_records

        return cls._kept(arrays_and_records.from_dataset(dataset, classes), folder)

    @classmethod
    def from_tfrecord(
        cls,
        files,
        image: str,
        label: str,
        split: str | None = None,
        group: str | None = None,
        classes=None,
        folder=None,
    ) -> Catalog:
        """TFRecords of `tf.train.Example`, plain or compressed with gzip; the images become files, once.

        Args:
            files: A path or pattern such as "data/train-*", several in a list, or a dict of such by split.
            image: The feature with the bytes of an image file.
            label: The feature with the class number or name.
            split: The feature with the official split; None for none.
            group: The feature with the group; None for none.
            classes: As in `from_arrays`.
            folder: As in `from_arrays`.

        Raises:
            InputError: If a file or a feature is missing or damaged.
        """
        from pipelines.catalog import arrays_and_records

        return cls._kept(arrays_and_records.from_tfrecord(files, image, label, split, group, classes), folder)

    @classmethod
    def from_tfds(cls, name: str, data_dir=None, image: str = "image", label: str = "label", folder=None) -> Catalog:
        """A data set of TensorFlow Datasets, downloaded if need be; its images become files, once. Needs `keras-cnn[tfds]`.

        Args:
            name: Such as "tf_flowers".
            data_dir: Where TFDS keeps its data; None: where it always does.
            image: The feature with the image.
            label: The feature with the label.
            folder: As in `from_arrays`.

        Raises:
            InputError: If TFDS is not installed, or has no such data set or feature.
        """
        from pipelines.catalog import arrays_and_records

        return cls._kept(arrays_and_records.from_tfds(name, data_dir, image, label), folder)

    @classmethod
    def _kept(cls, examples, folder):
        folder = image_store.default_folder() if folder is None else os.fspath(folder)
        paths, labels, official, groups = _columns(image_store.keep(examples, folder)) or ((),) * 4
        if all(isinstance(label, tuple) and len(label) == 1 for label in labels):
            labels = tuple(label[0] for label in labels)  # one-hot
        return cls(paths, labels, official, groups, ("",) * len(paths), folder)

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels, or none."""
        return any(isinstance(label, tuple) for label in self.labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that have files in use, the order of a network's outputs: by number, or as texts."""
        rows = zip(self.labels, self.reasons, strict=True)
        found = {name for label in {label for label, reason in rows if not reason} for name in _names(label)}
        numbers = all(name.isascii() and name.isdecimal() for name in found)
        return tuple(sorted(found, key=lambda name: (int(name), name) if numbers else name))

    def names(self, row: int) -> tuple[str, ...]:
        """The classes of a row: one, several, or none."""
        return _names(self.labels[row])

    def used(self, split: str | None = None) -> np.ndarray:
        """Row numbers of the files in use, of one split or of all."""
        rows = zip(self.reasons, self.splits, strict=True)
        return np.array([row for row, (reason, own) in enumerate(rows) if not reason and split in (None, own)], int)

    def targets(self, rows) -> np.ndarray:
        """The class numbers of rows, `(rows,)`; multi-label: `(rows, classes)` of 0 and 1."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        if not self.multi_label:
            return np.array([numbers[self.labels[row]] for row in rows], int)
        targets = np.zeros((len(rows), len(numbers)), int)
        for place, row in enumerate(rows):
            targets[place, [numbers[name] for name in self.labels[row]]] = 1
        return targets

    def leave_out(self, reasons: dict[int, str]) -> Catalog:
        """The same table with a reason at some rows."""
        return replace(self, reasons=tuple(reasons.get(row, reason) for row, reason in enumerate(self.reasons)))

    def check(self) -> Catalog:
        """This catalog, if a classifier can be learned from it.

        Raises:
            InputError: If there are fewer than two classes, fewer than two readable images in one, or three in none.
        """
        odd = [label for label in self.classes if not is_one_line(label)]
        if odd:
            raise InputError(f"The name of a class must be valid text of one line. Received: {odd[0]!r}. Rename it.")
        counts = Counter({name: 0 for label in self.labels for name in _names(label)})
        counts.update(name for row in self.used() for name in _names(self.labels[row]))
        if len(counts) < 2:
            raise InputError(f"A classifier needs at least two classes. Received: {len(counts)}, {', '.join(counts)}.")
        small = [f"{label!r} has {counts[label]}" for label in sorted(counts) if counts[label] < SMALLEST_CLASS]
        if small:
            why = sorted({reason for reason in self.reasons if reason})
            reasons = f" Files were left out as: {'; '.join(why[:3])}." if why else ""
            raise InputError(
                f"Each class needs at least {SMALLEST_CLASS} readable images. Received: {', '.join(small[:10])}.{reasons} "
                "Add images or remove the class."
            )
        if max(counts.values()) <= SMALLEST_CLASS:
            raise InputError(
                "At least one class needs three readable images: one to train, one to choose settings, one to test. "
                f"Received: {SMALLEST_CLASS} in every class. Add images."
            )
        return self

    def split(self, seed: int = 0) -> Catalog:
        """Give each used file its split: about the same shares of every class, by a hash of `seed` and group or path alone.

        Official splits stay; one that the source lacks is taken out of "train". `pipelines.catalog.splits` tells the rule:
        a file keeps its split when others come or go, and a class with three files has one in each split.

        Raises:
            InputError: If a group has two official splits, a class has no file to train with, or a split has none at all.
        """
        rows, numbers = self.used(), {name: number for number, name in enumerate(self.classes)}
        classes = {label: [numbers.get(name) for name in _names(label)] for label in set(self.labels)}
        relative = splits.relative_to(self.root)
        units = [self.groups[row] or relative(self.paths[row]) for row in rows]
        drawn = splits.draw(
            units, [classes[self.labels[row]] for row in rows], [self.splits[row] for row in rows], seed
        )
        found = [""] * len(self.paths)
        for row, split in zip(rows, drawn, strict=True):
            found[row] = split
        return replace(self, splits=tuple(found))._check_splits()

    def to_csv(self, path, fingerprints=None) -> None:
        """Write the table with the columns path (absolute), label, split, group, reason.

        Multi-label: for each class a column "label:CLASS" of 0 and 1 follows. Cells that a spreadsheet would take for formulas
        begin with an apostrophe (`pipelines.names.to_cell`). `from_csv` reads all that again.

        Args:
            path: The file to write.
            fingerprints: For each row a number for the content of its file, or ""; None for no such column.
        """
        several = self.classes if self.multi_label else ()
        last = () if fingerprints is None else (csv_and_parquet.FINGERPRINT,)
        with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file)
            writer.writerow((*COLUMNS, *(CLASS + name for name in several), *last))
            columns = (self.paths, self.labels, self.splits, self.groups, self.reasons)
            for row, (name, label, *rest) in enumerate(zip(*columns, strict=True)):
                cells = map(to_cell, (os.path.abspath(name), ", ".join(_names(label)), *rest))
                writer.writerow((*cells, *(int(one in label) for one in several), *(fingerprints[row] for _ in last)))

    def _check_splits(self):
        trained = {name for row in self.used("train") for name in _names(self.labels[row])}
        lacking = [name for name in self.classes if name not in trained]
        if lacking:
            raise InputError(
                f"Each class needs an image to train with. Received: none of {lacking[0]!r} in the split train. Add one, or "
                "remove the class."
            )
        for split in splits.SPLITS:
            rows = self.used(split)
            if not any(_names(self.labels[row]) for row in rows):
                wanted = "an image with a label" if len(rows) else "an image"
                raise InputError(
                    f"Each split needs {wanted}. Received: none for {split}. Add images, or smaller groups."
                )
        return self


def _columns(rows):
    return tuple(zip(*rows, strict=True))


def _names(label):
    """The classes of a label: one, several, or none."""
    if isinstance(label, tuple):
        return label
    return (label,) if label else ()
