"""Listing and splitting a folder of files, beside `os.walk` alone and Keras' `image_dataset_from_directory`, in one run.

    python benchmarks/listing.py [--files 10000] [--classes 100] [--turns 7] [--json]

The files are empty: only their names are read. Each turn runs all ways one after another; medians are printed.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

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
    """Keras' listing with a validation split; it makes a data set as well, of which no element is asked for."""
    options = {"validation_split": 0.2, "subset": "training", "seed": 0, "verbose": False}
    with contextlib.redirect_stdout(sys.stderr):  # it tells of what it found
        return keras.utils.image_dataset_from_directory(folder, **options)


def timed(function, *arguments):
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def measure(folder, files, turns):
    rounds = []
    for _ in range(turns + 1):
        walked, paths = timed(walk, folder)
        listed, catalog = timed(Catalog.from_folder, folder)
        split, catalog = timed(catalog.split)
        by_keras, _ = timed(of_keras, folder)
        assert len(paths) == len(catalog.included()) == files and all(catalog.splits)
        rounds.append((walked, listed, split, listed + split, by_keras))
    times = np.median(rounds[1:], axis=0)  # the first turn warms up
    return dict(zip(("os.walk", "from_folder", "split", "from_folder and split", "Keras"), times.tolist(), strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10000, help="(default: %(default)s)")
    parser.add_argument("--classes", type=int, default=100, help="(default: %(default)s)")
    parser.add_argument("--turns", type=int, default=7, help="(default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_files(folder, options.files, options.classes)
        seconds = measure(folder, options.files, options.turns)
    if options.json:
        print(json.dumps({"files": options.files, "seconds": seconds}, indent=2))
        return
    for name, value in seconds.items():
        print(f"{name:24}{1000 * value:9.1f} ms for {options.files} files")
    print(f"Keras takes {seconds['Keras'] / seconds['from_folder and split']:.1f} times as long")


if __name__ == "__main__":
    main()
