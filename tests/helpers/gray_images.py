"""Images of three classes: gray of three levels, with noise."""

import numpy as np
from PIL import Image

import keras_cnn as kc
from pipelines import doctor
from pipelines.catalog import Catalog
from pipelines.datasets.array_cache import ArrayCache
from pipelines.training.split_images import SplitImages

SIZE = 32


def gray_images(folder, spread=40):
    """Splits of 12 images, 4 per class, written to a folder and read from there. The classes overlap if levels spread."""
    numbers, lines = np.random.default_rng(0), ["path,label,split"]
    for split in ("train", "validation", "test"):
        for number in range(12):
            level = (80, 120, 160)[number % 3] + numbers.normal(0, spread)
            pixels = np.clip(numbers.normal(level, 30, (SIZE, SIZE, 3)), 0, 255).astype("uint8")
            Image.fromarray(pixels).save(folder / f"{split}-{number}.png")
            lines.append(f"{split}-{number}.png,{'abc'[number % 3]},{split}")
    (folder / "table.csv").write_text("\n".join(lines))
    preprocessing = kc.Preprocessing(SIZE)
    catalog, images = doctor.read(Catalog.from_csv(folder / "table.csv"), preprocessing, ArrayCache(folder / "cache"))
    return SplitImages(catalog.check().split(), images, preprocessing)
