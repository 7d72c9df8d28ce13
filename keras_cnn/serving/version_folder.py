"""The folder of a model's versions: only our files, one writer at a time, nothing half-written.

TF Serving loads the highest folder whose name is an integer, so a version gets such a name only when it is complete.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_cnn import durable
from keras_cnn.arguments import join_some
from keras_cnn.serving import journal, layout

KNOWN = layout.DIRECTORIES | layout.FILES | {".DS_Store"}


class FolderError(ValueError):
    """The folder has other content, cannot be written, or another job is writing to it."""


@dataclass
class Staging:
    """What `open_staging` gives.

    Attributes:
        path: A directory for unfinished work, next to the versions, on the same disk.
        interrupted: What a killed job had written down after it began to publish, see `journal.finish`; None if there is
            none. It stays written down until another job publishes, or:
        recognized: Set this to True in the job that was killed: it reports what it published and has nothing else to do.
    """

    path: Path
    interrupted: dict[str, Any] | None
    recognized: bool = False


def check_directory(directory: str | os.PathLike) -> Path:
    """`directory` as a path, if versions may be written there.

    Raises:
        FolderError: If it is a file, or holds anything that no job of ours has written.
    """
    directory = Path(directory)
    try:
        str(directory).encode()
    except UnicodeEncodeError:
        raise FolderError(f"The output must have a name that is valid text. Received: {str(directory)!r}.") from None
    if directory.exists() and not directory.is_dir():
        raise FolderError(f"The output must be a folder. Received: {directory}, which is a file. Name a new folder.")
    entries = sorted(directory.iterdir()) if directory.is_dir() else []
    foreign = [entry.name for entry in entries if not _is_known(entry)]
    if foreign:
        raise FolderError(
            f"The output must be a new or empty folder, or one that an earlier job wrote. Received: {directory}, which holds "
            f"{join_some(foreign, 3)}. Name another folder."
        )
    for entry in entries:
        if expected := _expected_kind(entry):
            link = " but a symbolic link" if entry.is_symlink() else ""
            raise FolderError(
                f"What jobs write into the output folder {directory} must be theirs alone. Received: {entry.name}, which is "
                f"not {expected}{link}. Move it away, or name another folder."
            )
    return directory


@contextmanager
def open_staging(directory: str | os.PathLike) -> Iterator[Staging]:
    """A `Staging` inside `directory`, where one job at a time writes unfinished work.

    It is removed at the end, however the job ends. What a killed job has left is published if that was decided; otherwise
    the next job removes it.

    Raises:
        FolderError: As in `check_directory`, or if the folder cannot be written, or another job is writing to it.
    """
    directory = check_directory(directory)
    new = [path for path in (directory, *directory.parents) if not path.exists()]
    with ExitStack() as stack:
        with _as_folder_error(directory):
            durable.make_directory(directory)
            stack.enter_context(durable.locked(directory / layout.LOCK, wait=False))
        stack.callback(_remove_empty, directory, new)
        with _as_folder_error(directory):
            interrupted = journal.finish(directory)
            _remove_leftovers(directory)
            staging = Staging(Path(tempfile.mkdtemp(prefix=layout.STAGING, dir=directory)), interrupted)
        try:
            yield staging
        finally:
            if not journal.is_pending(directory):  # otherwise the next job takes the steps that are left
                shutil.rmtree(staging.path, ignore_errors=True)
        if staging.recognized:
            journal.forget(directory)


def next_version(directory: Path) -> int:
    """One more than the highest number of a version or run."""
    return max(layout.highest_version(directory), layout.highest_version(directory / layout.RUNS)) + 1


def _is_known(entry: Path) -> bool:
    is_version = entry.name.isdigit() and entry.name.isascii() and (entry / "saved_model.pb").is_file()
    return is_version or entry.name in KNOWN or entry.name.startswith(layout.STAGING)


def _expected_kind(entry: Path) -> str | None:
    """What an entry with one of our names must be, if it is something else; otherwise None."""
    if entry.name in layout.DIRECTORIES and (entry.is_symlink() or not entry.is_dir()):
        return "a folder"
    if entry.name == layout.REPORT:  # a link is replaced as a file is
        return "a file" if entry.is_dir() and not entry.is_symlink() else None
    return "a plain file" if entry.name in layout.FILES and (entry.is_symlink() or not entry.is_file()) else None


def _remove_leftovers(directory: Path) -> None:
    """Remove the unfinished work of killed jobs."""
    for path in directory.glob(layout.STAGING + "*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _as_folder_error(directory: Path) -> Iterator[None]:
    try:
        yield
    except durable.LockedError:
        raise FolderError(f"Another job is writing to {directory}. Wait for it, or name another folder.") from None
    except OSError as error:
        raise FolderError(
            f"The output folder {directory} cannot be written: {error.strerror}. Name another folder."
        ) from None


def _remove_empty(directory: Path, new: list[Path]) -> None:
    """Remove the lock file and the empty directories that were made, deepest first, if nothing has been published."""
    if all(entry.name == layout.LOCK for entry in directory.iterdir()):
        (directory / layout.LOCK).unlink(missing_ok=True)
        for path in new:
            try:
                path.rmdir()
            except OSError:
                break
