"""What is wrong with a data set, found before a network is trained on it."""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf

from keras_cnn import images
from pipelines import input as inputs
from pipelines.cache import Cache
from pipelines.catalog import Catalog


def read(catalog: Catalog, preprocessing, cache: Cache, progress):
    """Read and decode every file in use once; those that fail are left out, each with its reason.

    Args:
        catalog: A catalog.
        preprocessing: `keras_cnn.Preprocessing`.
        cache: Where decoded images are kept.
        progress: Called with the number of files done since the last call.

    Returns:
        The catalog, and the `Images` of all its rows that were in use.
    """
    rows = catalog.used()
    paths = [catalog.paths[row] for row in rows]
    key = inputs.Files(paths, preprocessing).key
    source = inputs.stored(paths, preprocessing, cache, progress, blacken=True)
    if isinstance(source, inputs.Files):
        readable = {int(position) for position, _ in inputs.decoded(paths, preprocessing, tf.uint8)}
        suspects = [position for position in range(len(paths)) if position not in readable]
    else:
        suspects = [position for position in range(len(paths)) if not source[position].any()]
    reasons = {int(rows[position]): why_unreadable(paths[position], preprocessing) for position in suspects}
    return catalog.leave_out({row: why for row, why in reasons.items() if why}), Images(source, rows, key)


class Images:
    """The decoded images of a catalog.

    Attributes:
        source: As `pipelines.input.stored` gives it.
        key: A digest of files and preprocessing.
    """

    def __init__(self, source, rows, key: str):
        self.source, self.key, self._rows = source, key, rows

    def positions(self, rows) -> np.ndarray:
        """Where in `source` the images of these rows of the catalog are."""
        return np.searchsorted(self._rows, rows)


def why_unreadable(path: str, preprocessing) -> str:
    """The reason why a file cannot be used, as a short text; "" if it can."""
    if not os.path.exists(path):
        return "a file that has gone meanwhile"
    if os.path.getsize(path) == 0:
        return "an empty file"
    try:
        images.prepare(tf.io.read_file(os.fsencode(path)), preprocessing)
    except tf.errors.InvalidArgumentError as error:
        return "no image that can be decoded: " + _first_sentence(error.message)
    except tf.errors.OpError as error:
        return "a file that cannot be read: " + _first_sentence(error.message)
    return ""


def _first_sentence(text):
    text = text.split("}} ")[-1].split(" [Op:")[0].splitlines()[0]
    return text if len(text) <= 160 else text[:159] + "…"
