"""The steps that publish a version, written down before the first one: whoever comes after a kill takes the rest.

Once the journal is on the disk, the version will have its name, however often a process dies on the way there. It stays until
the job has said so: one that was killed before finds by it that it is done, and does not publish that twice.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from keras_cnn import durable

JOURNAL = ".publishing"
STAGING = ".staging-"
UNFINISHED = ".unfinished"  # what an interrupted job resumes from


def pending(directory: Path) -> bool:
    """Whether steps are left that publish a version of `directory`."""
    steps = _read(directory)
    return steps is not None and (directory / steps["staging"]).exists()


def begin(staging: Path, number: int, job: dict | None, unfinished: bool) -> None:
    """Write down that all in `staging` gets its name: from now on it is decided.

    Args:
        staging: A folder in that of all versions; on the disk, with all that is in it.
        number: Of the version.
        job: Plain values by which the job knows itself.
        unfinished: Whether what an interrupted job resumes from is this job's, and goes with it.
    """
    steps = {"staging": staging.name, "number": number, "job": job, "unfinished": unfinished}
    durable.write_record(staging / JOURNAL, steps)
    _move(staging / JOURNAL, staging.parent / JOURNAL)


def finish(directory: Path) -> dict | None:
    """Take the steps that are written down and have not been taken; the lock of `directory` must be held.

    Returns:
        What was written down, by the names of `begin`; None if there was nothing.

    Raises:
        OSError: If a step cannot be taken; the journal stays for another try.
    """
    steps = _read(directory)
    if steps is None:
        return None
    staging, number = directory / steps["staging"], steps["number"]
    if not ((directory / str(number)).exists() or (staging / "version").exists()):  # somebody has removed it by hand
        forget(directory)
        return None
    if staging.exists():
        for source, target in _moves(staging, directory, number):
            _move(source, target)
        if steps["unfinished"] and (directory / UNFINISHED).exists():
            shutil.rmtree(directory / UNFINISHED)
        # That a folder of this name is no longer there says that all steps have been taken.
        done = staging.with_name(f"{STAGING}done-{number}")
        os.replace(staging, done)
        shutil.rmtree(done, ignore_errors=True)
    return steps


def forget(directory: Path) -> None:
    """The job has said what it gave. After this it must do nothing that could be interrupted."""
    (directory / JOURNAL).unlink()


def _read(directory):
    try:
        steps = durable.read_record(directory / JOURNAL)
    except FileNotFoundError:
        return None
    except ValueError:
        steps = {}
    name, number = steps.get("staging", ""), steps.get("number", 0)
    if not (name.startswith(STAGING) and os.path.basename(name) == name and isinstance(number, int) and number > 0):
        raise OSError(
            errno.EINVAL,
            f"its file {JOURNAL}, which says what a killed job was about to publish, is damaged. Remove that file and run the "
            "job again",
        )
    return steps


def _moves(staging, directory, number):
    """The version comes last: when TF Serving sees it, all that belongs to it is in place."""
    yield staging / "run", directory / "runs" / str(number)
    yield staging / "report.html", directory / "report.html"
    for file in sorted((staging / "serving").glob("*")):
        yield file, directory / "serving" / file.name
    yield staging / "version", directory / str(number)


def _move(source, target):
    if not source.exists():
        return  # a step that has been taken
    if source.is_dir() and target.exists():
        raise OSError(errno.EEXIST, f"{target} is there, and comes from something else. Move it away")
    durable.make_folder(target.parent)
    os.replace(source, target)
    durable.sync(target.parent)
