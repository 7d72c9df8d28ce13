"""Checkpoints that a crash cannot spoil: written apart, named when complete, proved by checksums, two kept."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np

from keras_cnn import durable, fetching

KEPT = 2
FILE = re.compile(r"([0-9]+)\.(json|npz)(\.part)?")


class Checkpoints:
    """Numbered pairs of files in a folder: `7.npz` holds arrays, `7.json` plain values, with a checksum of each of both.

    The second file gets its name last, so a pair is complete or it does not count. Neither says where it lies: a folder may
    be moved or copied.

    Args:
        directory: Made if it is missing.
    """

    def __init__(self, directory):
        self.directory, self._damaged = Path(directory), set()
        durable.make_folder(self.directory)

    def save(self, arrays: list, state: dict) -> None:
        """Write one checkpoint and remove those that are older than the last two sound ones."""
        plain = [np.asarray(array) for array in arrays]
        number = max(self._numbers(), default=0) + 1
        # NumPy's file format knows no bfloat16: such arrays are kept as their bytes, beside the name of their type.
        raw = {
            str(i): array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array
            for i, array in enumerate(plain)
        }
        with durable.atomic_write(self._path(number, "npz")) as file:
            np.savez(file, **raw)
        content = {
            "state": state,
            "types": [array.dtype.name for array in plain],
            "sha256": fetching.digest(self._path(number, "npz")),
        }
        durable.write_record(self._path(number, "json"), content)
        self._remove_all_but(sorted(self._numbers() - self._damaged)[-KEPT:])

    def load(self):
        """The newest sound checkpoint, `(arrays, state)`, or None. A damaged one is passed over with a warning."""
        for number in sorted(self._numbers(), reverse=True):
            try:
                return self._read(number)
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._damaged.add(number)
                warnings.warn(
                    f"Checkpoint {self._path(number, 'json')} is damaged ({error}): passed over.", stacklevel=3
                )
        return None

    def _read(self, number):
        content = durable.read_record(self._path(number, "json"))
        if fetching.digest(self._path(number, "npz")) != content["sha256"]:
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
        """The JSON of a pair goes first: what is half removed does not count either."""
        for path in sorted(self.directory.iterdir()):
            match = FILE.fullmatch(path.name)
            if match and (match[3] or int(match[1]) not in numbers):
                path.unlink(missing_ok=True)
