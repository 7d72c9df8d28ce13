"""What each operation of TensorFlow does, as `operations.txt` says."""

from __future__ import annotations

from functools import cache
from pathlib import Path

FILE = Path(__file__).parent / "operations.txt"
# The names of the classes. All other classes say what an operation does beyond computing, and complete "ReadFile ...".
COMPUTES, KEEPS_STATE, SAVER, UNCLASSIFIED = "computes", "keeps state", "saver", "has not been classified"
UNKNOWN = "is not an operation of TensorFlow"


@cache
def classes() -> dict[str, str]:
    """Operation -> class."""
    return {name: entry.partition(" | ")[0] for name, entry in entries(FILE.read_text(encoding="utf-8")).items()}


def entries(text: str) -> dict[str, str]:
    """Operation -> "class | reason", from the lines of a list. Comments and empty lines are skipped."""
    lines = [line.partition(" | ") for line in text.splitlines() if line and not line.startswith("#")]
    return {name: entry for name, _, entry in lines}


def effect(operation: str) -> str | None:
    """What an operation does beyond computing and keeping state in memory; None if nothing, and for the saver's."""
    found = classes().get(operation, UNKNOWN)
    return None if found in (COMPUTES, KEEPS_STATE, SAVER) else found
