"""Files that are complete or not there, and still are when the machine has lost its power."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# File systems that cannot put a folder on the disk by itself say so by one of these.
NOT_FOR_FOLDERS = (errno.EINVAL, errno.ENOTSUP)


@contextmanager
def atomic_write(path):
    """A new binary file that takes the name `path` at the end of the `with` block, on the disk by then; gone after an error.

    Until that moment the name keeps what it had. A symbolic link of that name is replaced, not followed.
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


def write_record(path, value) -> None:
    """Write a plain value as a line of JSON, and in a second line the SHA-256 of the first, by `atomic_write`."""
    content = json.dumps(value).encode()
    with atomic_write(path) as file:
        file.write(content + b"\n" + _checksum(content))


def read_record(path):
    """The value that `write_record` wrote.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If a bit of the file is another one.
    """
    content, _, checksum = Path(path).read_bytes().rpartition(b"\n")
    if _checksum(content) != checksum:
        raise ValueError(f"the checksum in {Path(path).name} differs")
    return json.loads(content)


def sync(path) -> None:
    """Have a file on the disk, or the names in a folder."""
    if os.name == "nt" and os.path.isdir(path):  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NOT_FOR_FOLDERS:
            raise
    finally:
        os.close(handle)


def sync_tree(folder) -> None:
    """Have a folder on the disk with all that is in it."""
    for path in sorted(Path(folder).rglob("*"), reverse=True):
        sync(path)
    sync(folder)


def make_folder(path) -> None:
    """Make a folder and those that it lies in, where they are missing, each on the disk under its name."""
    path = Path(path)
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in new:
        sync(folder.parent)


def open_lock(path):
    """A file to lock, made if it is missing. Nothing is ever written to it, and no link is followed.

    Raises:
        OSError: If it cannot be opened, or is no plain file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        raise _not_plain(path) if os.path.lexists(path) and not _is_plain(os.lstat(path)) else error from None
    if not _is_plain(os.fstat(handle)):
        os.close(handle)
        raise _not_plain(path)
    return os.fdopen(handle, "r+b", buffering=0)


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk has no room left. TensorFlow and HDF5 say it in words alone."""
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    return any(os.strerror(number) in str(error) for number in FULL)


def _checksum(content):
    return hashlib.sha256(content).hexdigest().encode()


def _is_plain(found):
    return stat.S_ISREG(found.st_mode)


def _not_plain(path):
    return OSError(errno.EINVAL, f"{os.path.basename(path)} in it must be a plain file, and is none", str(path))
