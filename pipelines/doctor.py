"""What is wrong with a data set, found before a network is trained on it."""

from __future__ import annotations

import os

import tensorflow as tf

from keras_cnn import images
from pipelines import input as inputs
from pipelines.catalog import Catalog


def leave_out_unreadable(catalog: Catalog, preprocessing, progress) -> Catalog:
    """Read and decode every file in use once; those that fail are left out, each with its reason.

    Args:
        catalog: A catalog.
        preprocessing: `keras_cnn.Preprocessing`.
        progress: Called with the number of files done since the last call.
    """
    rows = catalog.used()
    paths = [catalog.paths[row] for row in rows]
    readable, done = set(), 0
    for position, _ in inputs.decoded(paths, preprocessing):
        readable.add(int(position))
        progress(int(position) + 1 - done)
        done = int(position) + 1
    progress(len(paths) - done)
    broken = [position for position in range(len(paths)) if position not in readable]
    return catalog.leave_out({int(rows[position]): why_unreadable(paths[position]) for position in broken})


def why_unreadable(path: str) -> str:
    """The reason why a file cannot be used, as a short text."""
    if not os.path.exists(path):
        return "a file that has gone meanwhile"
    if os.path.getsize(path) == 0:
        return "an empty file"
    try:
        images.decode(tf.io.read_file(os.fsencode(path)))
    except tf.errors.InvalidArgumentError as error:
        return "no image that can be decoded: " + _first_sentence(error.message)
    except tf.errors.OpError as error:
        return "a file that cannot be read: " + _first_sentence(error.message)
    return "an image that cannot be resized"


def _first_sentence(text):
    text = text.split("}} ")[-1].split(" [Op:")[0].splitlines()[0]
    return text if len(text) <= 160 else text[:159] + "…"
