"""Temporary folders that do not outlive their process: if it is killed, the next process removes them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows: what a killed process leaves stays
    fcntl = None


class ScratchFolder:
    """A new folder, removed at the end of the `with` block or by `close`.

    Its process holds a lock on it. A folder that no process holds is left over from a killed one, and is removed when the next
    folder with this prefix is made.

    Args:
        directory: Where to make it.
        prefix: The beginning of its name. Nothing else in `directory` may begin like this: it would be removed.

    Attributes:
        path: The folder.
    """

    def __init__(self, directory: str | os.PathLike[str], prefix: str):
        sweep(directory, prefix)
        self.path, self._handle = _make(directory, prefix)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder, unless it has been renamed."""
        try:
            shutil.rmtree(self.path, ignore_errors=True)
        finally:
            _release(self._handle)


def sweep(directory: str | os.PathLike[str], prefix: str) -> None:
    """Remove the folders of killed processes."""
    for folder in Path(directory).glob(prefix + "*"):
        handle = _hold(folder)
        if handle is not None:
            shutil.rmtree(folder, ignore_errors=True)
            _release(handle)


@contextmanager
def temporary_files_in(folder: str | os.PathLike[str]) -> Iterator[None]:
    """During the `with` block, other libraries put the temporary files that they make with `tempfile` into `folder`."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _make(directory: str | os.PathLike[str], prefix: str) -> tuple[Path, int | None]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=directory))
        handle = _hold(path, wait=True)
        if path.is_dir():
            return path, handle
        _release(handle)  # before it was locked, another process took it for a leftover


def _hold(folder: Path, wait: bool = False) -> int | None:
    """A handle that holds the lock of a folder; None if another process holds it, or if folders cannot be locked."""
    if fcntl is None:
        return None
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _release(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)
