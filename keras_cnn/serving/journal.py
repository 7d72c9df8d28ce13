"""The steps that publish a version, written down before the first one: the next job after a kill takes the rest.

Once the journal is on disk, the version will get its name, however often a process dies on the way. The journal stays until the
job has reported what it published: a job that was killed before that finds out from the journal that it is done, and does not
publish again.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_cnn import durable
from keras_cnn.serving.layout import JOURNAL, REPORT, RUNS, SERVING, STAGED_RUN, STAGED_VERSION, STAGING, UNFINISHED


def is_pending(directory: Path) -> bool:
    """Whether steps are left that publish a version in `directory`."""
    steps = _read(directory)
    return steps is not None and (directory / steps["staging"]).exists()


def begin(staging: Path, number: int, job: dict[str, Any] | None, remove_checkpoints: bool) -> None:
    """Write down that everything in `staging` gets its name: from now on it is decided.

    Args:
        staging: A directory next to the versions, on disk with all its content.
        number: The number of the version.
        job: Plain values by which the job recognizes itself.
        remove_checkpoints: Whether the folder with checkpoints belongs to this job and is removed with it.
    """
    steps = {"staging": staging.name, "number": number, "job": job, "remove_checkpoints": remove_checkpoints}
    durable.write_record(staging / JOURNAL, steps)
    _move(staging / JOURNAL, staging.parent / JOURNAL)


def finish(directory: Path) -> dict[str, Any] | None:
    """Take the steps that are written down and not yet taken. The lock of `directory` must be held.

    Returns:
        What was written down, by the argument names of `begin`; None if there was nothing.

    Raises:
        OSError: If a step cannot be taken; the journal stays for another attempt.
    """
    steps = _read(directory)
    if steps is None:
        return None
    staging, number = directory / steps["staging"], steps["number"]
    if not ((directory / str(number)).exists() or (staging / STAGED_VERSION).exists()):  # removed by hand
        forget(directory)
        return None
    if staging.exists():
        for source, target in _moves(staging, directory, number):
            _move(source, target)
        if steps["remove_checkpoints"] and (directory / UNFINISHED).exists():
            shutil.rmtree(directory / UNFINISHED)
        # Once no directory has this name, all steps have been taken.
        done = staging.with_name(f"{STAGING}done-{number}")
        os.replace(staging, done)
        shutil.rmtree(done, ignore_errors=True)
    return steps


def forget(directory: Path) -> None:
    """Remove the journal: the job has reported what it published. After this it must do nothing that can be interrupted."""
    (directory / JOURNAL).unlink()


def _read(directory: Path) -> dict[str, Any] | None:
    try:
        steps = durable.read_record(directory / JOURNAL)
    except FileNotFoundError:
        return None
    except ValueError:
        steps = {}
    name, number = steps.get("staging", ""), steps.get("number", 0)
    is_name = name.startswith(STAGING) and os.path.basename(name) == name
    if not (is_name and isinstance(number, int) and number > 0 and "remove_checkpoints" in steps):
        raise OSError(
            errno.EINVAL,
            f"its file {JOURNAL}, which says what a killed job was about to publish, is damaged. Remove that file and run the "
            "job again",
        )
    return steps


def _moves(staging: Path, directory: Path, number: int) -> Iterator[tuple[Path, Path]]:
    """The version comes last: when TF Serving sees it, everything that belongs to it is in place."""
    yield staging / STAGED_RUN, directory / RUNS / str(number)
    yield staging / REPORT, directory / REPORT
    for file in sorted((staging / SERVING).glob("*")):
        yield file, directory / SERVING / file.name
    yield staging / STAGED_VERSION, directory / str(number)


def _move(source: Path, target: Path) -> None:
    if not source.exists():
        return  # this step has been taken
    if source.is_dir() and target.exists():
        raise OSError(errno.EEXIST, f"{target} is there, and comes from something else. Move it away")
    durable.make_directory(target.parent)
    os.replace(source, target)
    durable.sync(target.parent)
