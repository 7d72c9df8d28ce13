"""Which images an exported version was trained on, according to the catalog of its run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from keras_cnn.serving import layout, model_card
from pipelines.catalog import csv_and_parquet
from pipelines.doctor.reading import fingerprint

# Settings are selected on the validation images, and a linear probe is fitted to them too. An image in both counts as train.
SPLITS = ("train", "validation")


class TrainingImages:
    """The training and validation images of a run.

    Args:
        rows: Dicts by column, from `pipelines.catalog.csv_and_parquet.saved_rows`.
    """

    def __init__(self, rows: Iterable[dict[str, str]]):
        rows = list(rows)
        rows = [row for split in SPLITS[::-1] for row in rows if row["split"] == split]
        self._by_path = {os.path.realpath(row["path"]): row["split"] for row in rows}
        self._by_content = {
            row[csv_and_parquet.FINGERPRINT]: row["split"] for row in rows if row.get(csv_and_parquet.FINGERPRINT)
        }

    def splits_of(self, paths: Sequence[str], contents: Any) -> list[str]:
        """For each image "train", "validation", or "" if it was in neither. Images are found by their content or their path.

        Args:
            paths: Of image files.
            contents: The bytes of the files, a string tensor.
        """
        numbers = map(str, fingerprint(contents).numpy())
        return [
            self._by_content.get(number) or self._by_path.get(os.path.realpath(path), "")
            for number, path in zip(numbers, paths, strict=True)
        ]


def find_training_images(version: Path) -> TrainingImages | None:
    """The images that an exported version was trained on; None if the catalog of its run is not next to it."""
    version = version.resolve()
    about = model_card.read(version).get("metadata")
    run = str(about.get("run", version.name) if isinstance(about, dict) else version.name)
    catalog = version.parent / layout.RUNS / run / "catalog.csv"
    # The name of the run comes from a file that anybody may have written: only a number is followed.
    if not (run.isascii() and run.isdigit() and catalog.is_file()):
        return None
    return TrainingImages(csv_and_parquet.saved_rows(catalog))
