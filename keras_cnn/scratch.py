"""Temporary folders that do not outlive their process, even if it is killed: the next one removes them."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: what a killed process leaves stays
    fcntl = None


class ScratchFolder:
    """A new folder, removed at the end of the `with` block or by `close`.

    Its process holds a lock on it. What nobody holds has been left by a process that was killed, and is removed when the
    next folder with this prefix is made.

    Args:
        directory: Where to make it.
        prefix: What its name begins with. Nothing else in `directory` may begin so: it would be removed.

    Attributes:
        path: The folder.
    """

    def __init__(self, directory, prefix: str):
        sweep(directory, prefix)
        self.path, self._handle = _made(directory, prefix)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder, if it has not got another name."""
        try:
            shutil.rmtree(self.path, ignore_errors=True)
        finally:
            _release(self._handle)


def sweep(directory, prefix: str) -> None:
    """Remove the folders of killed processes."""
    for folder in Path(directory).glob(prefix + "*"):
        handle = _hold(folder)
        if handle is not None:
            shutil.rmtree(folder, ignore_errors=True)
            _release(handle)


@contextmanager
def temporary_files_in(folder):
    """Within it, temporary files that other libraries make with `tempfile` lie in `folder`, and go when that does."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _made(directory, prefix):
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=directory))
        handle = _hold(path, wait=True)
        if path.is_dir():
            return path, handle
        _release(handle)  # before the lock was there, another process took it for one that nobody holds


def _hold(folder, wait=False):
    """A handle that holds the lock of a folder; None if another process does, or nothing can be locked there."""
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


def _release(handle):
    if handle is not None:
        os.close(handle)
