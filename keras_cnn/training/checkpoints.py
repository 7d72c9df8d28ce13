"""Checkpoints that a crash cannot spoil: written apart, named when complete, proved by a checksum, two kept."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np

KEPT = 2


class Checkpoints:
    """Numbered pairs of files in a folder: `7.npz` holds arrays, `7.json` plain values and the checksum of the arrays.

    The second file gets its name last, so a pair is complete or it does not count.

    Args:
        directory: Made if it is missing.
    """

    def __init__(self, directory):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)

    def save(self, arrays: list, state: dict) -> None:
        """Write one checkpoint and remove those that are older than the last two."""
        numbers = self._numbers()
        number = (numbers or [0])[-1] + 1
        plain = [np.asarray(array) for array in arrays]
        # NumPy's file format knows no bfloat16: such arrays are kept as their bytes, beside the name of their type.
        raw = {
            str(i): array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array
            for i, array in enumerate(plain)
        }
        with _written(self._path(number, "npz")) as file:
            np.savez(file, **raw)
        content = {
            "state": state,
            "types": [array.dtype.name for array in plain],
            "sha256": _digest(self._path(number, "npz")),
        }
        with _written(self._path(number, "json")) as file:
            file.write(json.dumps(content).encode())
        for old in numbers[: 1 - KEPT]:
            self._path(old, "json").unlink(missing_ok=True)
            self._path(old, "npz").unlink(missing_ok=True)

    def load(self):
        """The newest sound checkpoint, `(arrays, state)`, or None. A damaged one is passed over with a warning."""
        for number in reversed(self._numbers()):
            try:
                content = json.loads(self._path(number, "json").read_text())
                if _digest(self._path(number, "npz")) != content["sha256"]:
                    raise ValueError("the checksum differs")
                with np.load(self._path(number, "npz"), allow_pickle=False) as file:
                    raw = [file[str(i)] for i in range(len(file.files))]
                arrays = [
                    array.view(np.dtype(name)) if array.dtype.name != name else array
                    for array, name in zip(raw, content["types"], strict=True)
                ]
                return arrays, content["state"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                warnings.warn(
                    f"Checkpoint {self._path(number, 'json')} is damaged ({error}): passed over.", stacklevel=3
                )
        return None

    def _numbers(self):
        return sorted(int(path.stem) for path in self.directory.glob("*.json") if path.stem.isdigit())

    def _path(self, number, suffix):
        return self.directory / f"{number}.{suffix}"


@contextmanager
def _written(path: Path):
    """A binary file that gets its name at the end of the `with` block, on the disk by then; gone after an error."""
    part = path.with_name(f"{path.name}.part")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
