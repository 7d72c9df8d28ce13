"""Memory over many epochs: it must stay where it was.

    python benchmarks/memory.py [--epochs 100] [--images 512] [--json]

Images are decoded once into an empty cache, and epochs of varied batches are read from it, as `fit` does. Told is what the
process holds of memory that is its own (without files that are mapped, which the system may drop), in MB.
"""

import argparse
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

import keras_cnn as kc
from pipelines import augment
from pipelines.datasets.array_cache import ArrayCache
from pipelines.datasets.image_batches import ImageBatches
from pipelines.datasets.image_files import load_images

EVERY = 10  # epochs


def own_memory():
    """MB of anonymous memory of this process; Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1000


def measure(epochs, count, folder):
    """MB after every tenth epoch."""
    chance, paths = np.random.default_rng(0), []
    for number in range(count):
        pixels = chance.integers(0, 256, (15, 20, 3), dtype="uint8")
        paths.append(str(folder / f"{number}.jpg"))
        Image.fromarray(pixels).resize((320, 240)).save(paths[-1])
    preprocessing, light = kc.Preprocessing(224), augment.preset("light")
    larger = replace(preprocessing, size=light.stored_size(preprocessing.size))
    source = load_images(paths, larger, ArrayCache(folder / "cache"))
    batches = ImageBatches(source, np.arange(count) % 10, preprocessing.size, 32, classes=10, augmentation=light)
    found = {}
    for epoch, _ in enumerate(batches.epochs(epochs).as_numpy_iterator(), 1):
        if epoch % (EVERY * batches.steps) == 0:
            found[epoch // batches.steps] = own_memory()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--images", type=int, default=512, help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options.epochs, options.images, Path(folder))
    if options.json:
        print(json.dumps(found))
        return
    for epoch, size in found.items():
        print(f"after {epoch:4} epochs {size:8.0f} MB")


if __name__ == "__main__":
    main()
