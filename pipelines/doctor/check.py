"""The whole check of a data set, from its files to the findings."""

from __future__ import annotations

import time
from collections.abc import Iterator

from keras_cnn import Preprocessing
from pipelines import doctor
from pipelines.catalog import Catalog
from pipelines.datasets.array_cache import ArrayCache
from pipelines.errors import InputError
from pipelines.progress import Progress

READ_SIZE = 64  # pixels per side: enough to compare images, and large JPEGs are decoded at an eighth of their size


def check_data(catalog: Catalog, size: int, progress: bool = True) -> dict:
    """Everything that the doctor finds, as plain values.

    Args:
        catalog: A catalog; leaks are searched between its splits, if it has splits.
        size: Height and width of the network's input.
        progress: Whether to show a progress bar, on a terminal.

    Returns:
        images, classes, excluded, seconds, images_per_second, and findings: a list of `Finding.to_dict`.
    """
    count, phases = len(catalog.included()), Progress(visible=progress)
    start = time.perf_counter()
    with phases.shown(), phases.phase("Checking images", count) as advance:
        catalog, images = doctor.read(catalog, Preprocessing(READ_SIZE), ArrayCache(), advance, store_images=False)
        duplicates = doctor.find_duplicates(images)
        findings = (*_refusals(catalog), *doctor.examine(catalog, images, duplicates, (size, size)))
    seconds = time.perf_counter() - start
    return {
        "images": len(catalog.included()),
        "classes": len(catalog.classes),
        "excluded": sum(bool(reason) for reason in catalog.exclusion_reasons),
        "seconds": seconds,
        "images_per_second": count / seconds,
        "findings": [finding.to_dict() for finding in findings],
    }


def _refusals(catalog: Catalog) -> Iterator[doctor.Finding]:
    """A finding if `fit` would refuse these data."""
    try:
        catalog.check().split()
    except InputError as error:
        yield doctor.Finding("refused", "error", f"`fit` cannot learn from these data: {error}")
