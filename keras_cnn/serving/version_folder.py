"""The folder of a model's versions: ours alone, one writer at a time, nothing half-written.

TF Serving loads the highest folder whose name is an integer, so a version gets such a name only when it is complete.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from keras_cnn import durable
from keras_cnn.serving import journal
from keras_cnn.serving.journal import STAGING, UNFINISHED

LOCK = ".lock"
FOLDERS = {"runs", "serving", UNFINISHED}
FILES = {"report.html", LOCK, journal.JOURNAL}
OWN = FOLDERS | FILES | {".DS_Store"}


class FolderError(ValueError):
    """The folder belongs to something else, cannot be written, or another job is writing there."""


@dataclass
class Staged:
    """What `staged` gives.

    Attributes:
        path: A folder to write what is not finished, beside the versions, on the same disk.
        interrupted: What a job had written down that was killed after it had begun to publish, see `journal.finish`; None: no
            job was. It stays written down until another job publishes, or:
        recognized: Set to True by that very job, which says what it gave and has nothing else to do.
    """

    path: Path
    interrupted: dict | None
    recognized: bool = False


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
    for entry in entries:
        if wanted := _wanted(entry):
            raise FolderError(
                f"What jobs write into the output folder {directory} must be theirs alone. Received: {entry.name}, which is "
                f"not {wanted}{' but a symbolic link' if entry.is_symlink() else ''}. Move it away, or name another folder."
            )
    return directory


@contextmanager
def staged(directory):
    """A `Staged` folder inside `directory`, where one job at a time writes what is not finished.

    At the end the folder is removed, whatever ends the job; what a killed job has left is published, if that had been
    decided, or else removed by the next one.

    Raises:
        FolderError: As in `check`, or if the folder cannot be written, or another job is writing there.
    """
    directory = check(directory)
    new = [path for path in (directory, *directory.parents) if not path.exists()]
    with _explained(directory):
        durable.make_folder(directory)
        lock = _lock(directory)
    with lock:
        try:
            with _explained(directory):
                interrupted = journal.finish(directory)
                _sweep(directory)
                staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=directory))
            staged = Staged(staging, interrupted)
            try:
                yield staged
            finally:
                if not journal.pending(directory):  # otherwise the next job takes the steps that are left
                    shutil.rmtree(staging, ignore_errors=True)
            if staged.recognized:
                journal.forget(directory)
        finally:
            _leave(directory, new)


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


def _wanted(entry):
    """What an entry by one of our names must be, if it is something else."""
    if entry.name in FOLDERS and (entry.is_symlink() or not entry.is_dir()):
        return "a folder"
    if entry.name == "report.html":  # a link is replaced as a file is
        return "a file" if entry.is_dir() and not entry.is_symlink() else None
    return "a plain file" if entry.name in FILES and (entry.is_symlink() or not entry.is_file()) else None


def _sweep(directory):
    for left in directory.glob(STAGING + "*"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


@contextmanager
def _explained(directory):
    try:
        yield
    except OSError as error:
        raise FolderError(
            f"The output folder {directory} cannot be written: {error.strerror}. Name another folder."
        ) from None


def _lock(directory):
    """The lock file, held until it is closed."""
    import fcntl  # Unix alone has it, and the rest of the package does without

    while True:
        lock = durable.open_lock(directory / LOCK)
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
