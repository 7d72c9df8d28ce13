"""The folder that a job writes: versions for TF Serving, a run's records beside them, nothing half-written."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

from keras_cnn import durable
from keras_cnn.serving import layout, publishing, version_folder
from pipelines.errors import InputError, TrainingError


class Output:
    """`directory`, while one job writes to it.

    Attributes:
        directory: The folder of all versions.
        number: The number of this job's version and run.
        staging: Where the job writes what is not finished, on the same disk.
    """

    def __init__(self, directory: Path, staging: version_folder.Staging):
        self.directory, self.staging, self._staging = directory, staging.path, staging
        self.number = version_folder.next_version(directory)

    @property
    def run(self) -> Path:
        """Where the records of the run are written before `publish`."""
        return self.staging / layout.STAGED_RUN

    @property
    def version(self) -> Path:
        """Where the SavedModel is written before `publish`."""
        return self.staging / layout.STAGED_VERSION

    def publish(self, job: dict, unfinished: bool) -> tuple[Path, Path]:
        """Give the finished run and version their names; returns the paths of both.

        Args:
            job: Plain values by name: all that decides what the job gives.
            unfinished: Whether the job has an unfinished one's folder, which goes now (see `pipelines.training.job_state`).
        """
        shutil.copyfile(self.run / layout.REPORT, self.staging / layout.REPORT)
        publishing.publish(self.staging, self.number, job, unfinished)
        return self._paths(self.number)

    def published(self, job: dict) -> tuple[Path, Path] | None:
        """The run and the version of this very job, if it was killed when those had been decided: then it is done."""
        before = self._staging.interrupted
        self._staging.recognized = before is not None and before["job"] == json.loads(json.dumps(job))
        return self._paths(before["number"]) if self._staging.recognized else None

    def _paths(self, number):
        return self.directory / layout.RUNS / str(number), self.directory / str(number)


def check(directory) -> Path:
    """`directory` as a path, if a job may write there.

    Raises:
        InputError: If it is a file, or a folder with things in it that no job of ours has written.
    """
    try:
        return version_folder.check_directory(directory)
    except version_folder.FolderError as error:
        raise InputError(str(error)) from None


@contextmanager
def opened(directory):
    """An `Output` for one job at a time; what is not published is gone at the end, whatever ends it.

    What a killed job has left is published if that had been decided, or else removed by the next one.

    Raises:
        InputError: If the folder is not ours, cannot be written, or another job is writing there.
        TrainingError: If the job finds a disk full.
    """
    try:
        with version_folder.open_staging(directory) as staging:
            (staging.path / layout.STAGED_RUN).mkdir()
            yield Output(Path(directory), staging)
    except version_folder.FolderError as error:
        raise InputError(str(error)) from None
    except Exception as error:
        if isinstance(error, (InputError, TrainingError)) or not durable.is_disk_full(error):
            raise
        raise TrainingError(_full(directory, error)) from None


def _full(directory, error):
    where = f" for {error.filename}" if isinstance(error, OSError) and error.filename else ""
    return (
        f"The disk has no room left{where}. Make room and run the same command again: nothing half-written is left in "
        f"{directory}, and a training that had begun resumes at its last checkpoint."
    )
