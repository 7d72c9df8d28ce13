"""What a job leaves when it is interrupted while it trains, and how the same job goes on with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from keras_cnn import durable
from keras_cnn.serving import journal
from keras_cnn.serving.layout import UNFINISHED
from pipelines.errors import InputError


def opened(directory, job: dict, restart: bool = False) -> Path:
    """The folder of an unfinished job in `directory`: that of an interrupted one, or a new one.

    Args:
        directory: The folder of all versions.
        job: Plain values by name: all that decides what the job gives.
        restart: Whether to drop what is there.

    Raises:
        InputError: If an unfinished job is there that was begun with other values, or cannot tell with which.
    """
    folder = Path(directory) / UNFINISHED
    if restart:
        shutil.rmtree(folder, ignore_errors=True)
    job, record = json.loads(json.dumps(job)), folder / "job.json"
    began = _began(record)
    if began is None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        durable.write_record(record, job)
        return folder
    changed = [name for name in {**began, **job} if began.get(name) != job.get(name)]
    if changed:
        listed = ", ".join(f"{name} is {_short(job.get(name))}, was {_short(began.get(name))}" for name in changed[:3])
        raise InputError(
            f"An unfinished job in {directory} can go on only with the same data and settings. Received others: {listed}. "
            "Run the same command as before, or add --restart to drop that job."
        )
    return folder


def exists(directory) -> bool:
    """Whether an unfinished job is in `directory`, or one that was stopped while it published."""
    return (Path(directory) / UNFINISHED).is_dir() or journal.is_pending(Path(directory))


def remove(directory) -> None:
    """The job is given up."""
    shutil.rmtree(Path(directory) / UNFINISHED, ignore_errors=True)


def _began(record):
    """What the job in a folder was begun with; None if there is none, or it was stopped before it began."""
    try:
        return durable.read_record(record)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(
            f"An unfinished job can go on only if {record} tells what it is. Received: a file that cannot be read ({error}). "
            "Bring it back, or add --restart to drop that job."
        ) from None


def _short(value):
    text = repr(value)
    return text if len(text) <= 40 else text[:12] + "…"
