"""How fast the doctor is, and which modified copies of an image it finds.

    python benchmarks/doctor.py [--photos FOLDER] [--files 3000] [--json]

Files of about 100 KB are made of real photos, from scikit-image or from a folder: mosaics of random parts, each different.
The rate is that of `keras-cnn doctor` on them, in a process that has loaded TensorFlow, from the first byte to the last
finding. The comparison of images is timed alone too, on thumbnails of 10,000 and 100,000 other mosaics; an empty number
of pairs means that there are too many to list.

The copies are those of 200 photos, with one modification each: the share is that of the copies that the doctor reports as
near-duplicates of their original. Pairs among the unmodified photos are false alarms.
"""

import os
import statistics
import tempfile
from pathlib import Path

import harness
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
    "flipped": lambda image: (image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 85),
}


def photos(folder):
    """Real photos, as Pillow images."""
    if folder:
        paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
        return [Image.open(path).convert("RGB") for path in paths[:: max(1, len(paths) // (2 * COPIES))]]
    return [Image.fromarray(getattr(data, name)()) for name in FROM_SKIMAGE]


def mosaic(sources, random):
    """Random parts of photos, side by side."""
    result = Image.new("RGB", (SIDE, SIDE))
    for top in range(0, SIDE, PART):
        for left in range(0, SIDE, PART):
            image = sources[random.integers(len(sources))]
            x, y = random.integers(max(1, image.width - PART)), random.integers(max(1, image.height - PART))
            result.paste(image.crop((x, y, x + PART, y + PART)), (left, top))
    return result


def rate(sources, count, folder):
    """What `check_data` returns for `count` files, and their mean size in bytes."""
    random, warmup = np.random.default_rng(0), folder / "warmup"
    for label in "ab":
        (folder / "files" / label).mkdir(parents=True)
        (warmup / label).mkdir(parents=True)
        mosaic(sources, random).save(warmup / label / "0.jpg")
    sizes = []
    for number in range(count):
        path = folder / "files" / "ab"[number % 2] / f"{number}.jpg"
        mosaic(sources, random).save(path, quality=85)
        sizes.append(path.stat().st_size)
    os.environ["KERAS_CNN_CACHE"] = str(folder / "cache")
    check_data(Catalog.from_folder(warmup), SIZE, progress=False)
    return check_data(Catalog.from_folder(folder / "files"), SIZE, progress=False), statistics.mean(sizes)


def compare(sources, count):
    """Seconds to compare the thumbnails of `count` mosaics, and the number of pairs found."""
    random = np.random.default_rng(0)
    parts = [np.asarray(image.resize((32, 32), Image.Resampling.BOX)) for image in sources]
    pool = np.stack([part[y : y + 4, x : x + 4] for part in parts for y in range(0, 29, 4) for x in range(0, 29, 4)])
    chosen = pool[random.integers(len(pool), size=(count, 2, 2))]
    thumbnails = chosen.transpose(0, 1, 3, 2, 4, 5).reshape(count, 8, 8, 3)
    pairs, seconds = harness.timed(near_pairs, thumbnails)
    return seconds.elapsed, None if pairs is None else len(pairs)


def copies_found(sources, folder):
    """change -> share of the copies that are found; and the number of pairs among the originals."""
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
        name: sum((number, count * index + number) in found for number in range(count)) / count
        for index, name in enumerate(CHANGES, 1)
    }
    return shares, sum(max(pair) < count for pair in found)


def main():
    parser = harness.parser(__doc__)
    parser.add_argument("--photos", metavar="FOLDER", help="a folder with photos (default: those of scikit-image)")
    parser.add_argument("--files", type=int, default=3000, help="number of files (default: %(default)s)")
    options = parser.parse_args()
    sources = photos(options.photos)
    with tempfile.TemporaryDirectory() as folder:
        found, size = rate(sources, options.files, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        shares, among = copies_found(sources, Path(folder))
    compared = {count: compare(sources, count) for count in COMPARED}
    measurements = {
        "files": found["images"],
        "bytes per file": size,
        "files per second": found["images_per_second"],
        **{f"share found, {name}": share for name, share in shares.items()},
        f"pairs found among {min(COPIES, len(sources))} different photos": among,
        **{f"seconds to compare {count:,} images": seconds for count, (seconds, _) in compared.items()},
        **{f"pairs found among {count:,} images": pairs for count, (_, pairs) in compared.items()},
    }
    harness.show([{"measurement": name, "value": value} for name, value in measurements.items()], options.json)


if __name__ == "__main__":
    main()
