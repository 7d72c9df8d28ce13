"""The file of a figure, which is checked before the work and written after it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_cnn import arguments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")


def expected_file(path: str | os.PathLike[str]) -> str | None:
    """What `path` should be, if no figure can be written there; None if one can."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        return "a .png, .svg or .pdf file"
    if path.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        return "a file in a folder that exists and can be written to"
    return None


def check_path(owner: str, path: str | os.PathLike[str]) -> Path:
    """`path` as a `Path`; ValueError if no figure can be written there."""
    if expected := expected_file(path):
        raise ValueError(arguments.message(owner, "path", expected, str(path)))
    return Path(path)


def save(figure: Figure, path: Path, **options: Any) -> None:
    """Write the figure to a file, whose ending chooses the format; nothing is written before all of it is drawn."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix[1:].lower(), dpi=150, facecolor="white", **options)
    path.write_bytes(drawn.getvalue())
