"""The folder that a job writes: versions for TF Serving, a run's records beside them, nothing half-written."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from keras_cnn.serving import publishing
from keras_cnn.serving.publishing import highest_version
from pipelines.errors import InputError

STAGING = ".staging-"
LOCK = ".lock"
OWN = {"runs", "report.html", LOCK, ".DS_Store"}


class Output:
    """`directory`, while one job writes to it.

    Attributes:
        directory: The folder of all versions.
        number: The number of this job's version and run.
        staging: Where the job writes what is not finished, on the same disk.
    """

    def __init__(self, directory: Path, staging: Path):
        self.directory, self.staging = directory, staging
        self.number = max(highest_version(directory), highest_version(directory / "runs")) + 1

    @property
    def run(self) -> Path:
        """Where the records of the run are written before `publish`."""
        return self.staging / "run"

    @property
    def version(self) -> Path:
        """Where the SavedModel is written before `publish`."""
        return self.staging / "version"

    def publish(self) -> tuple[Path, Path]:
        """Give the finished run and version their names; returns the paths of both and of the report's copy.

        The version comes last: when TF Serving sees it, all that tells about it is in place.
        """
        run, version = self.directory / "runs" / str(self.number), self.directory / str(self.number)
        run.parent.mkdir(exist_ok=True)
        report = self.staging / "report.html"
        shutil.copyfile(self.run / "report.html", report)
        os.rename(self.run, run)
        os.replace(report, self.directory / "report.html")
        os.rename(self.version, version)
        return run, version


def check(directory) -> Path:
    """`directory` as a path, if a job may write there.

    Raises:
        InputError: If it is a file, or a folder with things in it that no job of ours has written.
    """
    directory = Path(directory)
    try:
        str(directory).encode()
    except UnicodeEncodeError:
        raise InputError(f"The output must have a name that is valid text. Received: {str(directory)!r}.") from None
    if directory.exists() and not directory.is_dir():
        raise InputError(f"The output must be a folder. Received: {directory}, which is a file. Name a new folder.")
    entries = sorted(directory.iterdir()) if directory.is_dir() else []
    strange = [entry.name for entry in entries if not _ours(entry)]
    if strange:
        raise InputError(
            f"The output must be a new or empty folder, or one that an earlier job wrote. Received: {directory}, which holds "
            f"{', '.join(strange[:3])}. Name another folder."
        )
    return directory


@contextmanager
def opened(directory):
    """An `Output` for one job at a time; what is not published is gone at the end, whatever ends it.

    What a killed job has left behind is removed by the next one.

    Raises:
        InputError: If the folder is not ours, cannot be written, or another job is writing there.
    """
    directory = check(directory)
    new = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = open(directory / LOCK, "w")
    except OSError as error:
        raise InputError(
            f"The output folder {directory} cannot be written: {error.strerror}. Name another folder."
        ) from None
    try:
        _take(lock, directory)
        for left in directory.glob(STAGING + "*"):
            shutil.rmtree(left, ignore_errors=True)
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=directory))
        try:
            (staging / "run").mkdir()
            yield Output(directory, staging)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    finally:
        _leave(directory, new, lock)


def _ours(entry):
    version = entry.name.isdigit() and (entry / "saved_model.pb").is_file()
    return version or entry.name in OWN or entry.name.startswith((STAGING, publishing.STAGING))


def _take(lock, directory):
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"Another job is writing to {directory}. Wait for it, or name another folder.") from None


def _leave(directory, new, lock):
    """Remove what this job made and did not fill: the lock file and empty folders, deepest first."""
    if not (directory / "runs").exists():
        (directory / LOCK).unlink(missing_ok=True)
        for path in new:
            try:
                path.rmdir()
            except OSError:
                break
    lock.close()
