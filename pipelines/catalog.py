"""Where examples come from: one table of files with label, split, and the reason why one is left out."""

from __future__ import annotations

import csv
import hashlib
import os
import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_cnn.images import SUFFIXES
from keras_cnn.serving.publishing import UNUSABLE
from pipelines.errors import InputError

SPLITS = ("train", "validation", "test")
SHARES = (0.65, 0.15, 0.20)
COLUMNS = ("path", "label", "split", "group", "reason")
SMALLEST_CLASS = 2


@dataclass(frozen=True)
class Catalog:
    """A table of image files, one tuple entry a file in each column.

    Attributes:
        paths: As given by the source; absolute or relative to the working directory.
        labels: Names of classes, "" where a file has none.
        splits: "train", "validation", "test", or "" before `split` and for files that are left out.
        groups: Files of one group belong together; "" for none.
        reasons: Why a file is left out, "" for those that are used.
    """

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]
    groups: tuple[str, ...]
    reasons: tuple[str, ...]

    @classmethod
    def from_folder(cls, folder) -> Catalog:
        """Images below `folder`; the first level of folders names the classes, deeper levels may be anything.

        Hidden files and folders are passed over; files that are no images by their ending are listed with a reason.

        Raises:
            InputError: If the folder is missing or holds no folder.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(
                f"The data must be a folder with a folder of images for each class. Received: {folder}, which is no folder."
            )
        files = [(folder / name, "", "not in the folder of a class") for name in _visible(folder, os.path.isfile)]
        empty = []
        for label in _visible(folder, os.path.isdir):
            found = [(path, label, _reason(path)) for path in visible_files(folder / label)]
            files += found
            empty += [] if found else [label]
        if empty:
            names = ", ".join(empty[:5]) + (" ..." if len(empty) > 5 else "")
            raise InputError(
                f"Each class needs images. Received: empty folders in {folder}: {names}. Fill or remove them."
            )
        if not any(label for _, label, _ in files):
            raise InputError(
                f"The data must be a folder with a folder of images for each class. Received: {folder}, without such folders."
            )
        paths, labels, reasons = zip(*files, strict=True)
        nothing = ("",) * len(paths)
        return cls(tuple(map(str, paths)), labels, nothing, nothing, reasons)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that have files in use, sorted: the order of a network's outputs."""
        return tuple(sorted({label for label, reason in zip(self.labels, self.reasons, strict=True) if not reason}))

    def used(self, split: str | None = None) -> np.ndarray:
        """Row numbers of the files in use, of one split or of all."""
        rows = zip(self.reasons, self.splits, strict=True)
        return np.array([row for row, (reason, own) in enumerate(rows) if not reason and split in (None, own)], int)

    def targets(self, rows) -> np.ndarray:
        """The class numbers of rows."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        return np.array([numbers[self.labels[row]] for row in rows], int)

    def leave_out(self, reasons: dict[int, str]) -> Catalog:
        """The same table with a reason at some rows."""
        return replace(self, reasons=tuple(reasons.get(row, reason) for row, reason in enumerate(self.reasons)))

    def check(self) -> Catalog:
        """This catalog, if a classifier can be learned from it.

        Raises:
            InputError: If there are fewer than two classes, fewer than two readable images in one, or three in none.
        """
        odd = [label for label in self.classes if any(unicodedata.category(sign) in UNUSABLE for sign in label)]
        if odd:
            raise InputError(
                f"The name of a class must be valid text of one line. Received: {odd[0]!r}. Rename its folder."
            )
        counts = Counter({label: 0 for label in self.labels if label})
        counts.update(self.labels[row] for row in self.used())
        if len(counts) < 2:
            raise InputError(f"A classifier needs at least two classes. Received: {len(counts)}, {', '.join(counts)}.")
        small = [f"{label!r} has {counts[label]}" for label in sorted(counts) if counts[label] < SMALLEST_CLASS]
        if small:
            why = sorted({reason for reason in self.reasons if reason})
            reasons = f" Files were left out as: {'; '.join(why[:3])}." if why else ""
            raise InputError(
                f"Each class needs at least {SMALLEST_CLASS} readable images. Received: {', '.join(small[:10])}.{reasons} "
                "Add images or remove the folder."
            )
        if max(counts.values()) <= SMALLEST_CLASS:
            raise InputError(
                "At least one class needs three readable images: one to train, one to choose settings, one to test. "
                f"Received: {SMALLEST_CLASS} in every class. Add images."
            )
        return self

    def split(self, seed: int = 0) -> Catalog:
        """Give each used file its split: the same shares of every class, in an order that depends on `seed` and path alone.

        A class has an image in train before it has one in test, and in test before it has one in validation.
        """
        splits = [""] * len(self.paths)
        used = self.used()
        paths = {row: os.path.abspath(self.paths[row]) for row in used}
        root = os.path.commonpath([os.path.dirname(path) for path in paths.values()])
        for label in self.classes:
            rows = [row for row in used if self.labels[row] == label]
            rows.sort(key=lambda row: _hash(seed, os.path.relpath(paths[row], root)))
            for row, name in zip(rows, _share_out(len(rows)), strict=True):
                splits[row] = name
        return replace(self, splits=tuple(splits))

    def to_csv(self, path) -> None:
        """Write the table with the columns path, label, split, group, reason."""
        with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(zip(self.paths, self.labels, self.splits, self.groups, self.reasons, strict=True))


def _share_out(count):
    """The names of the splits for `count` files in a row."""
    test = max(1, round(count * SHARES[2]))
    validation = max(1, round(count * SHARES[1])) if count > 2 else 0
    return ["test"] * test + ["validation"] * validation + ["train"] * (count - test - validation)


def _hash(seed, name):
    return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()


def _visible(folder, kind):
    return sorted(name for name in os.listdir(folder) if not name.startswith(".") and kind(os.path.join(folder, name)))


def visible_files(folder):
    """The files below a folder at any depth, in order of name, without hidden ones."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent) / name for name in sorted(names) if not name.startswith("."))


def _reason(path):
    if not path.is_file():  # reading a pipe would wait for ever
        return "a link to nowhere" if path.is_symlink() else "not a regular file"
    return "" if path.suffix.lower() in SUFFIXES else f"not an image file by its ending ({path.suffix or 'none'})"
