"""The folder that a job writes: versions for TF Serving and the records of each run. It never has a half-written version."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_cnn import durable
from keras_cnn.serving import layout, publishing, version_folder
from pipelines.errors import InputError, TrainingError


class Output:
    """The output folder while one job writes to it.

    Attributes:
        directory: The folder of all versions.
        number: The number of this job's version and run.
        staging: Where the job writes before it publishes, on the same disk.
    """

    def __init__(self, directory: Path, staged: version_folder.Staging):
        self.directory, self.staging, self._staged = directory, staged.path, staged
        self.number = version_folder.next_version(directory)

    @property
    def run(self) -> Path:
        """Where the records of the run are written before `publish`."""
        return self.staging / layout.STAGED_RUN

    @property
    def version(self) -> Path:
        """Where the SavedModel is written before `publish`."""
        return self.staging / layout.STAGED_VERSION

    def publish(self, job: dict, remove_checkpoints: bool) -> tuple[Path, Path]:
        """Move the finished run and version to their final paths, and return these paths.

        Args:
            job: Plain values by name: everything that the result of the job depends on.
            remove_checkpoints: Whether the folder has checkpoints of this job, which are removed then (see
                `pipelines.training.job_state`).
        """
        shutil.copyfile(self.run / layout.REPORT, self.staging / layout.REPORT)
        publishing.publish(self.staging, self.number, job, remove_checkpoints)
        return self._paths(self.number)

    @property
    def interrupted(self) -> dict | None:
        """The job that was killed while it published, if one was."""
        return self._staged.interrupted and self._staged.interrupted["job"]

    def already_published(self, job: dict) -> tuple[Path, Path] | None:
        """The run and version of the same job, if it was killed while it published: it is complete now. None otherwise."""
        interrupted = self._staged.interrupted
        if interrupted is None or interrupted["job"] != json.loads(json.dumps(job)):
            return None
        self._staged.recognized = True
        return self._paths(interrupted["number"])

    def _paths(self, number: int) -> tuple[Path, Path]:
        return self.directory / layout.RUNS / str(number), self.directory / str(number)


def check(directory: str | Path) -> Path:
    """The path of the output folder, if a job may write there.

    Raises:
        InputError: If it is a file, or a folder with contents that no job wrote.
    """
    try:
        return version_folder.check_directory(directory)
    except version_folder.FolderError as error:
        raise InputError(str(error)) from None


@contextmanager
def open_output(directory: str | Path) -> Iterator[Output]:
    """An `Output` for one job at a time. Everything that is not published is removed at the end, also after an error.

    If an earlier job was killed while it published, its publication is completed first. Other remains of it are removed.

    Raises:
        InputError: If the folder has contents that no job wrote, it cannot be written, or another job is writing there.
        TrainingError: If the disk becomes full during the job.
    """
    try:
        with version_folder.open_staging(directory) as staged:
            (staged.path / layout.STAGED_RUN).mkdir()
            yield Output(Path(directory), staged)
    except version_folder.FolderError as error:
        raise InputError(str(error)) from None
    except Exception as error:
        if isinstance(error, (InputError, TrainingError)) or not durable.is_disk_full(error):
            raise
        raise TrainingError(_format_full_disk(directory, error)) from None


def _format_full_disk(directory: str | Path, error: Exception) -> str:
    where = f" for {error.filename}" if isinstance(error, OSError) and error.filename else ""
    return (
        f"The disk has no room left{where}. Make room and run the same command again: nothing half-written is left in "
        f"{directory}, and training resumes at its last checkpoint, if it had begun."
    )
