"""The options of every command that takes DATA: a folder or a table of images, and the columns of the table."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines import Catalog

COLUMNS = ("label", "split", "group", "path", "root")


def add_to(command: argparse.ArgumentParser) -> None:
    """Add DATA and its options to a subcommand of `argparse`."""
    command.add_argument(
        "data",
        metavar="DATA",
        help="the images: a folder with one folder of images per class; a table of image files (CSV or Parquet), such as the "
        "catalog.csv of a run; or 'sample' for the included sample data",
    )
    table = command.add_argument_group("if DATA is a table")
    table.add_argument(
        "--label",
        action="append",
        metavar="COLUMN",
        help="the column with the class. Give it several times for multi-label data: columns of 0 and 1, one per class "
        "(default: label)",
    )
    table.add_argument(
        "--split",
        metavar="COLUMN",
        help="the column with the split: train, validation or test. Files without a split are assigned at random (default: "
        "split, if there is such a column)",
    )
    table.add_argument(
        "--group",
        metavar="COLUMN",
        help="the column with the group: images of one group, such as one patient, stay in one split (default: group, if there "
        "is such a column)",
    )
    table.add_argument("--path", metavar="COLUMN", help="the column with the path of the image file (default: path)")
    table.add_argument(
        "--root", metavar="DIR", help="the folder that paths are relative to (default: the folder of the table)"
    )
    folder = command.add_argument_group("if DATA is a folder")
    folder.add_argument(
        "--class-folder",
        choices=("first", "last"),
        help="which folder names the class if folders are nested: the first on the way to an image, or the last (default: "
        "first)",
    )


def read(options: argparse.Namespace, out: str | os.PathLike | None = None) -> Catalog:
    """The `Catalog` that the options of a command describe; `out` as in `open_data`."""
    from pipelines.catalog import open_data
    from pipelines.sample import DIRECTORY

    data = DIRECTORY if options.data == "sample" and not os.path.exists("sample") else options.data
    columns = {name: getattr(options, name) for name in COLUMNS}
    return open_data(data, out, class_folder=options.class_folder, **columns)
