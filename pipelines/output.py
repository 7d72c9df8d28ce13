"""The folder that a job writes: versions for TF Serving, a run's records beside them, nothing half-written."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from keras_cnn.serving import folder, publishing
from pipelines.errors import InputError


class Output:
    """`directory`, while one job writes to it.

    Attributes:
        directory: The folder of all versions.
        number: The number of this job's version and run.
        staging: Where the job writes what is not finished, on the same disk.
    """

    def __init__(self, directory: Path, staging: Path):
        self.directory, self.staging = directory, staging
        self.number = folder.next_version(directory)

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
        publishing.publish(self.version, version)
        return run, version


def check(directory) -> Path:
    """`directory` as a path, if a job may write there.

    Raises:
        InputError: If it is a file, or a folder with things in it that no job of ours has written.
    """
    try:
        return folder.check(directory)
    except folder.FolderError as error:
        raise InputError(str(error)) from None


@contextmanager
def opened(directory):
    """An `Output` for one job at a time; what is not published is gone at the end, whatever ends it.

    What a killed job has left behind is removed by the next one.

    Raises:
        InputError: If the folder is not ours, cannot be written, or another job is writing there.
    """
    try:
        with folder.staged(directory) as staging:
            (staging / "run").mkdir()
            yield Output(Path(directory), staging)
    except folder.FolderError as error:
        raise InputError(str(error)) from None
