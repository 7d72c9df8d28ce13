"""Memory over many epochs: it must not grow.

    python benchmarks/memory.py [--epochs 100] [--images 512] [--json]

Images are decoded once into an empty cache, and epochs of augmented batches are read from it, as `fit` does. The table shows
the anonymous memory of the process in MB, after every tenth epoch. Mapped files, which the system may drop, do not count.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import harness
import numpy as np
from PIL import Image

import keras_cnn as kc
from pipelines import augment
from pipelines.datasets.array_cache import ArrayCache
from pipelines.datasets.image_batches import ImageBatches
from pipelines.datasets.image_files import load_images

EVERY = 10  # epochs


def anonymous_memory():
    """MB of anonymous memory of this process; Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1000


def measure(epochs, count, folder):
    """A row after every tenth epoch."""
    random, paths = np.random.default_rng(0), []
    for number in range(count):
        pixels = random.integers(0, 256, (15, 20, 3), dtype="uint8")
        paths.append(str(folder / f"{number}.jpg"))
        Image.fromarray(pixels).resize((320, 240)).save(paths[-1])
    preprocessing, light = kc.Preprocessing(224), augment.preset("light")
    larger = replace(preprocessing, size=light.stored_size(preprocessing.size))
    source = load_images(paths, larger, ArrayCache(folder / "cache"))
    batches = ImageBatches(source, np.arange(count) % 10, preprocessing.size, 32, classes=10, augmentation=light)
    for epoch, _ in enumerate(batches.epochs(epochs).as_numpy_iterator(), 1):
        if epoch % (EVERY * batches.steps) == 0:
            yield {"epochs": epoch // batches.steps, "megabytes": anonymous_memory()}


def main():
    parser = harness.parser(__doc__)
    parser.add_argument("--epochs", type=int, default=100, help="number of epochs (default: %(default)s)")
    parser.add_argument("--images", type=int, default=512, help="images per epoch (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        harness.show(measure(options.epochs, options.images, Path(folder)), options.json)


if __name__ == "__main__":
    main()
