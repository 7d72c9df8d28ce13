"""The options of every command that takes DATA: a folder or a table, and which columns of it are what."""

from __future__ import annotations

import os

COLUMNS = ("label", "split", "group", "path", "root")


def add_to(command) -> None:
    """Add DATA and its options to a subcommand of `argparse`."""
    command.add_argument(
        "data",
        metavar="DATA",
        help="a folder with a folder of images for each class; a table of image files (CSV, Parquet), such as the "
        "catalog.csv of a run; or 'sample'",
    )
    table = command.add_argument_group("where DATA is a table")
    table.add_argument(
        "--label",
        action="append",
        metavar="COLUMN",
        help="the class; given several times: columns of 0 and 1, several labels an image (default: label)",
    )
    table.add_argument("--split", metavar="COLUMN", help="train, validation or test (default: split, if there is one)")
    table.add_argument(
        "--group", metavar="COLUMN", help="what no split may tear apart (default: group, if there is one)"
    )
    table.add_argument("--path", metavar="COLUMN", help="the image file (default: path)")
    table.add_argument("--root", metavar="DIR", help="what paths are relative to (default: the folder of the table)")
    folder = command.add_argument_group("where DATA is a folder")
    folder.add_argument(
        "--class-folder",
        choices=("first", "last"),
        help="which of nested folders is the class, the first on the way to a file or the last (default: first)",
    )


def read(options, out=None):
    """The `Catalog` that the options of a command tell of; `out` as in `open_data`."""
    from pipelines.catalog import open_data
    from pipelines.sample import DIRECTORY

    data = DIRECTORY if options.data == "sample" and not os.path.exists("sample") else options.data
    columns = {name: getattr(options, name) for name in COLUMNS}
    return open_data(data, out, class_folder=options.class_folder, **columns)
