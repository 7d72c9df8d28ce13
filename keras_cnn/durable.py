"""Files that are complete or not there, also after a power failure, and a lock that processes share."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import filelock

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# File systems that cannot sync a directory answer with one of these.
NO_DIRECTORY_SYNC = (errno.EINVAL, errno.ENOTSUP)
# A process that ends may just remove the lock file; a second look makes a new one.
PATIENCE = 0.2  # seconds


class LockedError(Exception):
    """Another process holds the lock."""


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new binary file that gets the name `path` at the end of the `with` block, on disk by then; removed after an error.

    Until then `path` keeps its old content. A symbolic link of that name is replaced, not followed.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)  # of a killed process
    try:
        with open(part, "xb") as file:  # "x" follows no link
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_record(path: str | os.PathLike[str], value: Any) -> None:
    """Write a plain value as a line of JSON, and in a second line the SHA-256 of the first, by `atomic_write`."""
    content = json.dumps(value).encode()
    with atomic_write(path) as file:
        file.write(content + b"\n" + _checksum(content))


def read_record(path: str | os.PathLike[str]) -> Any:
    """The value that `write_record` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If any bit of the file has changed.
    """
    content, _, checksum = Path(path).read_bytes().rpartition(b"\n")
    if _checksum(content) != checksum:
        raise ValueError(f"the checksum in {Path(path).name} differs")
    return json.loads(content)


def sync(path: str | os.PathLike[str]) -> None:
    """Write a file, or the names in a directory, to the disk now."""
    if os.name == "nt" and os.path.isdir(path):  # Windows opens no directories
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_DIRECTORY_SYNC:
            raise
    finally:
        os.close(handle)


def sync_tree(directory: str | os.PathLike[str]) -> None:
    """Write a directory with all its content to the disk now."""
    for path in sorted(Path(directory).rglob("*"), reverse=True):
        sync(path)
    sync(directory)


def make_directory(path: str | os.PathLike[str]) -> None:
    """Make a directory and its parents where they are missing, each on disk with its name."""
    path = Path(path)
    new = [directory for directory in (path, *path.parents) if not directory.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for directory in new:
        sync(directory.parent)


@contextmanager
def locked(path: str | os.PathLike[str], wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path` during the `with` block: one process, and one thread, at a time.

    The file is made if it is missing. Nothing is ever written to it, and no link is followed.

    Args:
        path: The lock file.
        wait: Whether to wait while another process holds it.

    Raises:
        LockedError: If another process holds it, unless `wait`.
        OSError: If it cannot be opened, or is not a plain file.
    """
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        text = f"{os.path.basename(path)} in it must be a plain file, and is not one"
        raise OSError(errno.EINVAL, text, str(path))
    lock = filelock.FileLock(path, timeout=-1 if wait else PATIENCE)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise LockedError(f"Another process holds {path}.") from None
    try:
        yield
    finally:
        lock.release()


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that a disk has no room left. TensorFlow and HDF5 say it only in their message."""
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return True
    return any(os.strerror(number) in str(error) for number in DISK_FULL)


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
