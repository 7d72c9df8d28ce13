"""Images, catalogs and findings for the tests of the doctor."""

from pathlib import Path

import numpy as np
from PIL import Image

import keras_cnn as kc
from pipelines import Catalog, doctor
from pipelines.datasets.array_cache import ArrayCache

FILES = Path(__file__).parents[1] / "data" / "images"
SIZE = (64, 64)


def random_image(seed, side=96):
    """A smooth random image; no two are near-duplicates."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype="uint8")
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def save(image, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def save_gray_16(path, low, high):
    """A 16-bit PNG with a ramp of values from low to high."""
    return save(Image.fromarray(np.linspace(low, high, 96 * 96).reshape(96, 96).astype("uint16")), path)


def catalog_of(rows):
    """A catalog of (path, label, split), all in one folder; splits are drawn from the file names."""
    paths, labels, splits = zip(*((str(path), label, split) for path, label, split in rows), strict=True)
    return Catalog(paths, labels, splits, ("",) * len(rows), ("",) * len(rows), str(Path(paths[0]).parent))


def read(catalog, directory):
    """The catalog and its images, with a cache in this directory."""
    return doctor.read(catalog, kc.Preprocessing(32), ArrayCache(directory / "cache"))


def findings_by_kind(catalog, directory, size=SIZE):
    """kind -> the finding."""
    catalog, images = doctor.read(catalog, kc.Preprocessing(32), ArrayCache(directory / "cache"), store_images=False)
    findings = doctor.examine(catalog, images, doctor.find_duplicates(images), size)
    assert len({finding.text for finding in findings}) == len(findings)
    return {finding.kind: finding for finding in findings}
