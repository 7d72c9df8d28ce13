"""The folder of a model's versions: ours alone, one writer at a time, nothing half-written.

TF Serving loads the highest folder whose name is an integer, so a version gets such a name only when it is complete.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"
STAGING = ".staging-"
UNFINISHED = ".unfinished"  # what an interrupted job goes on from
OWN = {"runs", "serving", "report.html", LOCK, UNFINISHED, ".DS_Store"}


class FolderError(ValueError):
    """The folder belongs to something else, cannot be written, or another job is writing there."""


def check(directory) -> Path:
    """`directory` as a path, if versions may be written there.

    Raises:
        FolderError: If it is a file, or a folder with things in it that no job of ours has written.
    """
    directory = Path(directory)
    try:
        str(directory).encode()
    except UnicodeEncodeError:
        raise FolderError(f"The output must have a name that is valid text. Received: {str(directory)!r}.") from None
    if directory.exists() and not directory.is_dir():
        raise FolderError(f"The output must be a folder. Received: {directory}, which is a file. Name a new folder.")
    entries = sorted(directory.iterdir()) if directory.is_dir() else []
    strange = [entry.name for entry in entries if not _ours(entry)]
    if strange:
        raise FolderError(
            f"The output must be a new or empty folder, or one that an earlier job wrote. Received: {directory}, which holds "
            f"{', '.join(strange[:3])}. Name another folder."
        )
    return directory


@contextmanager
def staged(directory):
    """A folder inside `directory`, on the same disk, where one job at a time writes what is not finished.

    At the end it is removed, whatever ends the job; what a killed job has left behind is removed by the next one.

    Raises:
        FolderError: As in `check`, or if the folder cannot be written, or another job is writing there.
    """
    directory = check(directory)
    new = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = _lock(directory)
    except OSError as error:
        raise FolderError(
            f"The output folder {directory} cannot be written: {error.strerror}. Name another folder."
        ) from None
    try:
        for left in directory.glob(STAGING + "*"):
            shutil.rmtree(left, ignore_errors=True)
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=directory))
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    finally:
        _leave(directory, new)
        lock.close()


def next_version(directory: Path) -> int:
    """One more than the highest version or run."""
    return max(highest_version(directory), highest_version(directory / "runs")) + 1


def highest_version(directory: Path) -> int:
    """The highest integer that names an entry of `directory`, 0 if there is none."""
    names = [entry.name for entry in directory.iterdir()] if directory.is_dir() else []
    return max((int(name) for name in names if name.isascii() and name.isdigit()), default=0)


def _ours(entry):
    version = entry.name.isascii() and entry.name.isdigit() and (entry / "saved_model.pb").is_file()
    return version or entry.name in OWN or entry.name.startswith(STAGING)


def _lock(directory):
    """The lock file, held until it is closed."""
    import fcntl  # Unix alone has it, and the rest of the package does without

    while True:
        lock = open(directory / LOCK, "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise FolderError(f"Another job is writing to {directory}. Wait for it, or name another folder.") from None
        try:
            if os.path.samestat(os.fstat(lock.fileno()), os.stat(directory / LOCK)):
                return lock
        except FileNotFoundError:
            directory.mkdir(parents=True, exist_ok=True)
        lock.close()  # a job that ended just now has removed this file


def _leave(directory, new):
    """Remove the lock file and the empty folders that were made, deepest first, if nothing has been published."""
    if all(entry.name == LOCK for entry in directory.iterdir()):
        (directory / LOCK).unlink(missing_ok=True)
        for path in new:
            try:
                path.rmdir()
            except OSError:
                break
