"""Which images an exported version has learned from: the catalog of its run, which lies beside it, knows."""

from __future__ import annotations

import os
from pathlib import Path

from keras_cnn.serving import layout, model_card
from pipelines.catalog import csv_and_parquet
from pipelines.doctor.reading import fingerprint

# Of validation, settings are chosen, and a head that is trained alone learns too. An image in both counts as the first one.
SPLITS = ("train", "validation")


class TrainedOn:
    """The images of the splits train and validation of a run.

    Args:
        rows: Dicts by column, from `pipelines.catalog.csv_and_parquet.saved_rows`.
    """

    def __init__(self, rows):
        rows = [row for split in SPLITS[::-1] for row in rows if row["split"] == split]
        self._by_path = {_real(row["path"]): row["split"] for row in rows}
        self._by_content = {
            row[csv_and_parquet.FINGERPRINT]: row["split"] for row in rows if row.get(csv_and_parquet.FINGERPRINT)
        }

    def splits(self, paths, contents) -> list[str]:
        """For each image "train", "validation", or "" if it is neither: known by its path, or by its content elsewhere.

        Args:
            paths: Of files.
            contents: Their bytes, a string tensor.
        """
        numbers = map(str, fingerprint(contents).numpy())
        return [
            self._by_content.get(number) or self._by_path.get(_real(path), "")
            for number, path in zip(numbers, paths, strict=True)
        ]


def trained_on(version: Path) -> TrainedOn | None:
    """What the version at a path has learned from; None if no catalog of its run is beside it."""
    version = version.resolve()
    about = model_card.read(version).get("metadata")
    run = str(about.get("run", version.name) if isinstance(about, dict) else version.name)
    catalog = version.parent / layout.RUNS / run / "catalog.csv"
    # The name of a run comes from a file that may be anybody's.
    return (
        TrainedOn(csv_and_parquet.saved_rows(catalog))
        if run.isascii() and run.isdigit() and catalog.is_file()
        else None
    )


def _real(path):
    return os.path.realpath(path)
