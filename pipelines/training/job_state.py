"""What a job leaves when it is interrupted while it trains, so that the same job can resume."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_cnn import durable
from keras_cnn.serving import journal
from keras_cnn.serving.layout import UNFINISHED
from pipelines.errors import InputError
from pipelines.settings import BEST, PRESETS

PLANNED = ("preset", "train", "epochs", "augmented_copies")  # settings that a plan decides


def open_or_create(directory: str | os.PathLike, job: dict, restart: bool = False) -> Path:
    """The folder for the state of a job in `directory`: that of the same job, interrupted, or a new one.

    Args:
        directory: The folder of all versions.
        job: Plain values by name: all that decides the outcome of the job.
        restart: Whether to discard what is there.

    Raises:
        InputError: If another job was interrupted there, or its record cannot be read.
    """
    folder = Path(directory) / UNFINISHED
    if restart:
        shutil.rmtree(folder, ignore_errors=True)
    job, record = json.loads(json.dumps(job)), folder / "job.json"
    before = _read(record)
    if before is None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        durable.write_record(record, job)
        return folder
    changed = [name for name in {**before, **job} if before.get(name) != job.get(name)]
    if changed:
        listed = ", ".join(f"{name} is {_short(job.get(name))}, was {_short(before.get(name))}" for name in changed[:3])
        raise InputError(
            f"The interrupted job in {directory} can resume only with the same data and settings. Received others: {listed}. "
            "Run the same command as before, or add --restart to discard that job."
        )
    return folder


def planned(
    directory: str | os.PathLike, overrides: Mapping[str, Any], published: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The settings that the interrupted job in `directory` had planned for the same time limit; none if it is another job.

    Args:
        directory: The folder of all versions.
        overrides: The settings that the user gives now.
        published: The job that was interrupted while it published, if one was.

    Raises:
        InputError: If there is a time limit, and the record of the interrupted job cannot be read.
    """
    limit = overrides.get("time_limit")
    before = None if limit is None else published or _read(Path(directory) / UNFINISHED / "job.json")
    if before is None or before.get("time_limit") != limit:
        return {}
    plan = {name: before[name] for name in PLANNED}
    given = {name: overrides[name] for name in PLANNED if overrides.get(name) is not None}
    most = given.pop("preset", BEST)
    is_same = all(plan[name] == value for name, value in given.items())
    return plan if is_same and PRESETS.index(plan["preset"]) <= PRESETS.index(most) else {}


def exists(directory: str | os.PathLike) -> bool:
    """Whether an interrupted job is in `directory`, or one that was stopped while it published."""
    return (Path(directory) / UNFINISHED).is_dir() or journal.is_pending(Path(directory))


def remove(directory: str | os.PathLike) -> None:
    """Discard the interrupted job in `directory`."""
    shutil.rmtree(Path(directory) / UNFINISHED, ignore_errors=True)


def _read(record):
    """The job that a record describes; None if there is none, or it was stopped before it wrote the record."""
    try:
        return durable.read_record(record)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(
            f"An interrupted job can resume only if {record} can be read. Received: {error}. Restore the file, or add "
            "--restart to discard that job."
        ) from None


def _short(value):
    text = repr(value)
    return text if len(text) <= 40 else text[:12] + "…"
