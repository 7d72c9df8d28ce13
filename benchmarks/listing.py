"""Listing and splitting a folder of files, compared with `os.walk` and Keras' `image_dataset_from_directory`, in one run.

    python benchmarks/listing.py [--files 10000] [--classes 100] [--turns 7] [--json]

The files are empty: only their names are read. Each turn calls all functions, one after another. Times are medians, and
ratios are those of the medians.
"""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import harness
import keras
import numpy as np

from pipelines import Catalog


def make_files(folder, files, classes):
    for number in range(files):
        path = Path(folder, f"class {number % classes:04}", f"{number:08}.jpg")
        path.parent.mkdir(exist_ok=True)
        path.touch()


def walk(folder):
    return [os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names]


def of_keras(folder):
    """Keras' listing with a validation split; it also makes a data set, but nothing is read from it."""
    options = {"validation_split": 0.2, "subset": "training", "seed": 0, "verbose": False}
    with contextlib.redirect_stdout(sys.stderr):  # it prints what it found
        return keras.utils.image_dataset_from_directory(folder, **options)


def time_once(folder, files):
    """Seconds of one turn: each step needs the result of the one before."""
    paths, walked = harness.timed(walk, folder)
    catalog, listed = harness.timed(Catalog.from_folder, folder)
    catalog, split = harness.timed(catalog.split)
    _, by_keras = harness.timed(of_keras, folder)
    assert len(paths) == len(catalog.included()) == files and all(catalog.splits)
    return {
        "os.walk": walked.elapsed,
        "from_folder": listed.elapsed,
        "split": split.elapsed,
        "from_folder and split": listed.elapsed + split.elapsed,
        "Keras": by_keras.elapsed,
    }


def measure(folder, files, turns):
    """A row for each function."""
    found = harness.take_turns({"all": lambda: time_once(folder, files)}, turns)["all"]
    seconds = {name: float(np.median([turn[name] for turn in found])) for name in found[0]}
    for name, value in seconds.items():
        yield {"function": name, "files": files, "milliseconds": 1000 * value, "Keras / this": seconds["Keras"] / value}


def main():
    parser = harness.parser(__doc__, turns=7)
    parser.add_argument("--files", type=int, default=10000, help="number of files (default: %(default)s)")
    parser.add_argument("--classes", type=int, default=100, help="number of classes (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_files(folder, options.files, options.classes)
        harness.show(measure(folder, options.files, options.turns), options.json)


if __name__ == "__main__":
    main()
