"""The names of everything in a folder of versions.

`keras-cnn fit` writes more than versions there: the records of runs, a report, and what an interrupted run resumes from. Those
names are here too, because every writer of the folder needs them: `keras_cnn.export` must accept them as its own, and it
publishes what a killed `fit` had decided to publish.
"""

from __future__ import annotations

from pathlib import Path

RUNS, SERVING, UNFINISHED = "runs", "serving", ".unfinished"
REPORT, LOCK, JOURNAL = "report.html", ".lock", ".publishing"
DIRECTORIES = {RUNS, SERVING, UNFINISHED}
FILES = {REPORT, LOCK, JOURNAL}
STAGING = ".staging-"  # what the name of a directory with unfinished work begins with
# In such a directory: the version and the records of the run, which get their numbers when they are published.
STAGED_VERSION, STAGED_RUN = "version", "run"


def version_number(name: str) -> int:
    """The number of the version, or of the run, with this name; 0 if it is not a number that TF Serving would take.

    Example:
        >>> version_number("3"), version_number("²")
        (3, 0)
    """
    return int(name) if name.isascii() and name.isdigit() else 0


def highest_version(directory: Path) -> int:
    """The highest number that names an entry of `directory`, 0 if there is none."""
    names = [entry.name for entry in directory.iterdir()] if directory.is_dir() else []
    return max(map(version_number, names), default=0)
