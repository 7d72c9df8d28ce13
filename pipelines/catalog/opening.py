"""The data of a job, from a path: a folder or a table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pipelines.catalog.table import Catalog
from pipelines.errors import InputError


def open_data(
    data: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    class_folder: str | None = None,
    **columns: Any,
) -> Catalog:
    """The catalog of a folder (`Catalog.from_folder`) or of a table (`Catalog.from_csv`).

    Args:
        data: A path.
        out: Where the job writes; must not be inside a folder of data.
        class_folder: As in `Catalog.from_folder`.
        columns: As in `Catalog.from_csv`.

    Raises:
        InputError: If the path does not exist, the data are of another kind, or an option is for the other kind of data.
    """
    data = Path(data)
    columns = {name: value for name, value in columns.items() if value is not None}
    if data.is_file():
        if class_folder is not None:
            raise InputError(f"The option class_folder is for folders. Received: {data}, a file.")
        return Catalog.from_csv(data, **columns)
    if not data.is_dir():
        raise InputError(
            "The data must be a folder with one folder of images per class, or a table of image files. "
            f"Received: {data}, which does not exist."
        )
    if columns:
        raise InputError(f"The option {next(iter(columns))} is for tables. Received: {data}, a folder.")
    if out is not None and Path(out).resolve().is_relative_to(data.resolve()) and Path(out).resolve() != data.resolve():
        raise InputError(
            f"The output must not be inside the data, where it would be a class. Received: {out}. Choose another."
        )
    return Catalog.from_folder(data, class_folder or "first")
