"""Checkpoints that survive a crash: renamed when complete, verified by checksums, and never fewer than the last two."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from keras_cnn import downloads, durable

KEPT = 2
FILE = re.compile(r"([0-9]+)\.(json|npz)(\.part)?")


class Checkpoints:
    """Numbered pairs of files in a directory: `7.npz` holds arrays, `7.json` plain values and a checksum of each file.

    The JSON file gets its name last, so an incomplete pair does not count. No file refers to its own location: the directory
    may be moved or copied.

    Args:
        directory: Created if it is missing.
    """

    def __init__(self, directory: str | os.PathLike):
        self.directory = Path(directory)
        self._damaged: set[int] = set()
        durable.make_directory(self.directory)

    def save(self, arrays: Sequence[ArrayLike], state: dict) -> None:
        """Write one checkpoint and remove those that are older than the last two valid ones."""
        plain = [np.asarray(array) for array in arrays]
        number = max(self._numbers(), default=0) + 1
        # NumPy's file format lacks bfloat16: such arrays are saved as their bytes, and the JSON file names their type.
        raw = {
            str(i): array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array
            for i, array in enumerate(plain)
        }
        with durable.atomic_write(self._path(number, "npz")) as file:
            np.savez(file, **raw)  # type: ignore[arg-type]
        content = {
            "state": state,
            "types": [array.dtype.name for array in plain],
            "sha256": downloads.file_checksum(self._path(number, "npz")),
        }
        durable.write_record(self._path(number, "json"), content)
        self._remove_all_but(sorted(self._numbers() - self._damaged)[-KEPT:])

    def load(self) -> tuple[list[np.ndarray], dict] | None:
        """The newest valid checkpoint, `(arrays, state)`, or None. A damaged one is skipped with a warning."""
        for number in sorted(self._numbers(), reverse=True):
            try:
                return self._read(number)
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._damaged.add(number)
                warnings.warn(
                    f"Checkpoint {self._path(number, 'json')} is damaged ({error}) and is skipped.", stacklevel=3
                )
        return None

    def _read(self, number):
        content = durable.read_record(self._path(number, "json"))
        if downloads.file_checksum(self._path(number, "npz")) != content["sha256"]:
            raise ValueError(f"the checksum of {number}.npz differs")
        with np.load(self._path(number, "npz"), allow_pickle=False) as file:
            raw = [file[str(i)] for i in range(len(file.files))]
        arrays = [
            array.view(np.dtype(name)) if array.dtype.name != name else array
            for array, name in zip(raw, content["types"], strict=True)
        ]
        return arrays, content["state"]

    def _numbers(self):
        return {int(path.stem) for path in self.directory.glob("*.json") if FILE.fullmatch(path.name)}

    def _path(self, number, suffix):
        return self.directory / f"{number}.{suffix}"

    def _remove_all_but(self, numbers):
        """Remove the JSON file of a pair first: a half-removed pair does not count either."""
        for path in sorted(self.directory.iterdir()):
            match = FILE.fullmatch(path.name)
            if match and (match[3] or int(match[1]) not in numbers):
                path.unlink(missing_ok=True)
