"""What a job leaves when it is interrupted while it trains, and how the same job goes on with it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from keras_cnn.serving.folder import UNFINISHED
from pipelines.errors import InputError


def opened(directory, job: dict, restart: bool = False) -> Path:
    """The folder of an unfinished job in `directory`: that of an interrupted one, or a new one.

    Args:
        directory: The folder of all versions.
        job: Plain values by name: all that decides what the job gives.
        restart: Whether to drop what is there.

    Raises:
        InputError: If an unfinished job is there that was begun with other values.
    """
    folder = Path(directory) / UNFINISHED
    if restart:
        shutil.rmtree(folder, ignore_errors=True)
    job, record = json.loads(json.dumps(job)), folder / "job.json"
    try:
        began = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none, or one that has not begun
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        part = folder / "job.json.part"
        part.write_text(json.dumps(job, indent=1), encoding="utf-8")
        os.replace(part, record)
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
    """Whether an unfinished job is in `directory`."""
    return (Path(directory) / UNFINISHED).is_dir()


def remove(directory) -> None:
    """The job is done, or given up."""
    shutil.rmtree(Path(directory) / UNFINISHED, ignore_errors=True)


def _short(value):
    text = repr(value)
    return text if len(text) <= 40 else text[:12] + "…"
