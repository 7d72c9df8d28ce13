"""How fast the doctor is, and which changed copies of a picture it knows again.

    python benchmarks/doctor.py [--photos FOLDER] [--files 3000] [--json]

Files of about 100 KB are made of real photos, from scikit-image or from a folder: mosaics of random parts, each different.
The rate is that of `keras-cnn doctor` on them, in a process that has loaded TensorFlow, from the first byte to the last
finding. Pictures are compared in numbers, too: thumbnails of so many other mosaics.

Copies are those of 200 photos, changed in one way each; told is the share of which the doctor says that it is nearly the
same picture as the original. Of the photos as they are it tells how many pairs it takes for nearly the same.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from skimage import data

import keras_cnn as kc
from pipelines import Catalog, doctor
from pipelines.datasets.array_cache import ArrayCache
from pipelines.doctor.check import READ_SIZE, check_data
from pipelines.doctor.near_duplicates import near_pairs

SIDE, PART = 640, 160  # pixels of a mosaic and of its parts
SIZE = 224  # of a network's input
COMPARED = (10_000, 100_000)
COPIES = 200
FROM_SKIMAGE = ("astronaut", "cat", "coffee", "hubble_deep_field", "immunohistochemistry", "retina", "rocket")
CHANGES = {
    "JPEG quality 30": lambda image: (image, 30),
    "half the size": lambda image: (image.resize((image.width // 2, image.height // 2)), 85),
    "brightness 1.3": lambda image: (ImageEnhance.Brightness(image).enhance(1.3), 85),
    "contrast 0.7": lambda image: (ImageEnhance.Contrast(image).enhance(0.7), 85),
    "colour 1.4": lambda image: (ImageEnhance.Color(image).enhance(1.4), 85),
    "2 % cut off each side": lambda image: (ImageOps.crop(image, image.width // 50), 85),
    "4 % cut off each side": lambda image: (ImageOps.crop(image, image.width // 25), 85),
    "mirrored": lambda image: (ImageOps.mirror(image), 85),
}


def photos(folder):
    """Real photos, as Pillow images."""
    if folder:
        paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
        return [Image.open(path).convert("RGB") for path in paths[:: max(1, len(paths) // (2 * COPIES))]]
    return [Image.fromarray(getattr(data, name)()) for name in FROM_SKIMAGE]


def mosaic(sources, chance):
    """Random parts of photos, side by side."""
    result = Image.new("RGB", (SIDE, SIDE))
    for top in range(0, SIDE, PART):
        for left in range(0, SIDE, PART):
            image = sources[chance.integers(len(sources))]
            x, y = chance.integers(max(1, image.width - PART)), chance.integers(max(1, image.height - PART))
            result.paste(image.crop((x, y, x + PART, y + PART)), (left, top))
    return result


def rate(sources, count, folder):
    """What `check_data` gives for so many files, and their mean size in bytes."""
    chance, warm_up = np.random.default_rng(0), folder / "warm up"
    for label in "ab":
        (folder / "files" / label).mkdir(parents=True)
        (warm_up / label).mkdir(parents=True)
        mosaic(sources, chance).save(warm_up / label / "0.jpg")
    sizes = []
    for number in range(count):
        path = folder / "files" / "ab"[number % 2] / f"{number}.jpg"
        mosaic(sources, chance).save(path, quality=85)
        sizes.append(path.stat().st_size)
    os.environ["KERAS_CNN_CACHE"] = str(folder / "cache")
    check_data(Catalog.from_folder(warm_up), SIZE, progress=False)
    return check_data(Catalog.from_folder(folder / "files"), SIZE, progress=False), statistics.mean(sizes)


def comparison(sources, count):
    """Seconds to compare the thumbnails of so many mosaics."""
    chance = np.random.default_rng(0)
    parts = [np.asarray(image.resize((32, 32), Image.Resampling.BOX)) for image in sources]
    pool = np.stack([part[y : y + 4, x : x + 4] for part in parts for y in range(0, 29, 4) for x in range(0, 29, 4)])
    chosen = pool[chance.integers(len(pool), size=(count, 2, 2))]
    thumbnails = chosen.transpose(0, 1, 3, 2, 4, 5).reshape(count, 8, 8, 3)
    start = time.perf_counter()
    pairs = near_pairs(thumbnails)
    return time.perf_counter() - start, None if pairs is None else len(pairs)


def known_again(sources, folder):
    """change -> share of the copies that are near their original; and pairs among the originals."""
    originals = sources[:COPIES]
    rows = [(image, 95, f"original {number}") for number, image in enumerate(originals)]
    rows += [
        (*change(image), f"{name} {number}")
        for name, change in CHANGES.items()
        for number, image in enumerate(originals)
    ]
    paths = []
    for image, quality, name in rows:
        paths.append(folder / f"{name}.jpg")
        image.save(paths[-1], quality=quality)
    blank = ("",) * len(paths)
    catalog = Catalog(tuple(map(str, paths)), ("a",) * len(paths), blank, blank, blank)
    _, images = doctor.read(catalog, kc.Preprocessing(READ_SIZE), ArrayCache(folder / "cache"), store_images=False)
    thumbnails = images.records["thumbnail"]
    found = {tuple(pair) for pair in np.sort(near_pairs(thumbnails), axis=1).tolist()}
    count = len(originals)
    shares = {
        name: sum((number, count * place + number) in found for number in range(count)) / count
        for place, name in enumerate(CHANGES, 1)
    }
    return shares, sum(max(pair) < count for pair in found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", help="a folder with photos (default: those of scikit-image)")
    parser.add_argument("--files", type=int, default=3000, help="to be looked at (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    sources = photos(options.photos)
    with tempfile.TemporaryDirectory() as folder:
        found, size = rate(sources, options.files, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        shares, among = known_again(sources, Path(folder))
    compared = {count: comparison(sources, count) for count in COMPARED}
    result = {
        "files": found["images"],
        "bytes_per_file": size,
        "files_per_second": found["images_per_second"],
        "known_again": shares,
        "pairs_among_originals": among,
        "seconds_to_compare": {count: seconds for count, (seconds, _) in compared.items()},
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{found['images']} files of {size / 1000:.0f} KB: {found['images_per_second']:.0f} a second")
    for count, (seconds, pairs) in compared.items():
        print(f"{count:9,} pictures compared in {seconds:6.1f} s, {'too many' if pairs is None else pairs} pairs")
    for name, share in shares.items():
        print(f"{name:24}{100 * share:6.1f} % known again")
    print(f"{among} pairs among {min(COPIES, len(sources))} originals")


if __name__ == "__main__":
    main()
