"""What the pictures share: colours, and a file that is checked before the work and written after it."""

from __future__ import annotations

import io
import os
from pathlib import Path

from keras_cnn import arguments

INK, FAINT, LINE, BLUE, ORANGE, GREEN = "#1f2328", "#7d858f", "#d5d9df", "#1f6feb", "#d97706", "#1a7f4b"
FORMATS = (".png", ".svg", ".pdf")


def expected_of(path) -> str | None:
    """What `path` should be, if no picture can be written there; None if one can."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        return "a .png, .svg or .pdf file"
    if path.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        return "a file in a folder that exists and can be written to"
    return None


def checked_path(owner: str, path) -> Path:
    """`path` as a `Path`; ValueError if no picture can be written there."""
    if expected := expected_of(path):
        raise ValueError(arguments.message(owner, "path", expected, str(path)))
    return Path(path)


def write(figure, path: Path, **options) -> None:
    """The figure as a file, whose ending chooses the format; nothing is written before it is drawn."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix[1:].lower(), dpi=150, facecolor="white", **options)
    path.write_bytes(drawn.getvalue())
