"""First and later epochs beside Keras' `image_dataset_from_directory`, and what augmentation costs, in one run.

    python benchmarks/input.py [--photos FOLDER] [--turns 5] [--size 224] [--json]

Photos of 0.3, 2 and 12 megapixels are made as mosaics of real ones, without scaling, so that they have the detail of
photos: of those of a folder, or of scikit-image's. In each turn all ways of reading them run one after another. "first"
decodes every file into an empty cache and then goes through one epoch of batches; "later" is an epoch from that cache.
Ratios are given by the clock and by the work of the processor, which other programs on the machine disturb less.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

import keras_cnn as kc
from pipelines.augment import PRESETS, Augmentation
from pipelines.datasets.array_cache import ArrayCache
from pipelines.datasets.image_batches import ImageBatches
from pipelines.datasets.image_files import load_images

BATCH_SIZE = 32
# Height and width, number of different files, and how often each of them stands in the folder.
MEGAPIXELS = {0.3: ((480, 640), 200, 20), 2: ((1200, 1600), 60, 12), 12: ((3000, 4000), 16, 8)}


def make_photos(folder, tiles, size, count, copies):
    """JPEG files in two classes, each a mosaic of random parts of real photos, and as many links to each."""
    random = np.random.default_rng(0)
    height, width = size
    for number in range(count):
        mosaic = np.zeros((height, width, 3), "uint8")
        for top in range(0, height, 240):
            for left in range(0, width, 240):
                tile = tiles[random.integers(len(tiles))]
                y, x = random.integers(tile.shape[0] - 239), random.integers(tile.shape[1] - 239)
                place = mosaic[top : top + 240, left : left + 240]
                place[:] = tile[y : y + place.shape[0], x : x + place.shape[1]]
        path = Path(folder, str(number % 2), f"{number}.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mosaic).save(path, quality=90)
        for copy in range(1, copies):
            os.link(path, path.with_stem(f"{number}_{copy}"))


def photo_tiles(folder):
    """Photos of at least 240 pixels, as arrays."""
    if folder:
        images = [Image.open(path) for path in sorted(Path(folder).rglob("*.jpg"))[:200]]
    else:
        from skimage import data

        images = [Image.fromarray(getattr(data, name)()) for name in ("astronaut", "chelsea", "coffee", "rocket")]
    return [np.array(image.convert("RGB")) for image in images if min(image.size) >= 240]


def consume(dataset):
    for _ in dataset:
        pass


def timed(function):
    """Seconds by the clock, and of the processor's work in this process."""
    usage, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    function()
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    return np.array([seconds, after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime])


def ours(paths, size):
    """Times of a first epoch, and of one of the later ones."""
    with tempfile.TemporaryDirectory() as folder:

        def batches():
            source = load_images(paths, kc.Preprocessing(size), ArrayCache(folder))
            return ImageBatches(source, np.arange(len(paths)) % 2, (size, size), BATCH_SIZE, classes=2)

        first, count = timed(lambda: consume(batches()(0))), max(1, 4000 // len(paths))
        later = batches()
        return first, timed(lambda: consume(later.epochs(count))) / count


def of_keras(folder, size):
    """An epoch of Keras' data set, which resizes without anti-aliasing."""
    options = {"image_size": (size, size), "batch_size": BATCH_SIZE, "shuffle": False, "verbose": False}
    consume(keras.utils.image_dataset_from_directory(folder, label_mode="categorical", **options).prefetch(2))


def of_keras_smooth(paths, size):
    """The same steps with anti-aliasing."""

    def load(path):
        image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
        return tf.image.resize(image, (size, size), antialias=True)

    files = tf.data.Dataset.from_tensor_slices(paths)
    consume(files.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH_SIZE).prefetch(2))


def measure_reading(tiles, megapixels, size, turns):
    """For each way of reading, medians of images/s and of milliseconds of work an image; medians of ratios within a turn."""
    with tempfile.TemporaryDirectory() as folder:
        make_photos(folder, tiles, *MEGAPIXELS[megapixels])
        paths = sorted(map(str, Path(folder).rglob("*.jpg")))
        rounds = []
        for _ in range(turns + 1):
            keras_times = timed(lambda: of_keras(folder, size)), timed(lambda: of_keras_smooth(paths, size))
            rounds.append([*ours(paths, size), *keras_times])
    times = np.array(rounds[1:])  # turn, way, clock or work; the first turn warms up
    ways = dict(zip(("first", "later", "keras", "keras_smooth"), np.moveaxis(times, 1, 0), strict=True))
    pairs = (("keras", "first"), ("keras_smooth", "first"), ("first", "later"))
    return {
        "images_per_second": {name: float(len(paths) / np.median(way[:, 0])) for name, way in ways.items()},
        "work_ms": {name: float(1000 * np.median(way[:, 1]) / len(paths)) for name, way in ways.items()},
        "times_as_fast": {f"{b} as {a}": np.median(ways[a] / ways[b], axis=0).tolist() for a, b in pairs},
    }


def work(function, count):
    """Milliseconds of work for an image: the least of five passes."""
    function()
    return 1000 * min(timed(function)[1] for _ in range(5)) / count


def measure_augmentation(tiles, size):
    """Milliseconds of processor time for an image: the presets, and Keras' layers beside the nearest of ours."""
    count = 4 * BATCH_SIZE
    random = np.random.default_rng(0)
    squares = [tiles[number][:240, :240] for number in random.integers(len(tiles), size=count)]

    def batches(augmentation):
        stored_size = augmentation.stored_size((size, size))
        images = tf.cast(tf.round(tf.image.resize(squares, stored_size)), tf.uint8).numpy()
        found = ImageBatches(
            images, np.arange(count) % 2, (size, size), BATCH_SIZE, classes=2, augmentation=augmentation
        )
        return work(lambda: consume(found(0)), count)

    def layers(*parts):
        images = tf.data.Dataset.from_tensor_slices(np.float32(tf.image.resize(squares, (size, size)))).batch(
            BATCH_SIZE
        )

        def apply(images):
            for part in parts:
                images = part(images, training=True)
            return images

        return work(lambda: consume(images.map(apply, num_parallel_calls=2).prefetch(2)), count)

    preset = {f"preset {name}": batches(augmentation) for name, augmentation in PRESETS.items()}
    make, light = keras.layers, PRESETS["light"]
    jitter = make.RandomColorJitter(
        value_range=(0, 255), brightness_factor=0.2, contrast_factor=0.2, saturation_factor=0.2
    )
    return {
        **preset,
        "flip, crop, colour: ours": batches(light),
        "flip, zoom, colour: Keras": layers(make.RandomFlip("horizontal"), make.RandomZoom(0.3), jitter),
        "rotation: ours": batches(Augmentation(rotation=30)),
        "rotation: Keras": layers(make.RandomRotation(30 / 360)),
        "RandAugment: ours": batches(Augmentation(rand_augment=0.3)),
        "RandAugment: Keras": layers(make.RandAugment(value_range=(0, 255), num_ops=2, factor=0.3)),
        "erasing: ours": batches(Augmentation(erasing=1.0)),
        "erasing: Keras": layers(make.RandomErasing(value_range=(0, 255), factor=1.0)),
        "colour: ours": batches(replace(light, min_crop_area=1.0, horizontal_flip=False)),
        "colour: Keras": layers(jitter),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", help="a folder with JPEG photos (default: those of scikit-image)")
    parser.add_argument("--turns", type=int, default=5, help="turns of each size (default: 5)")
    parser.add_argument("--size", type=int, default=224, help="height and width of the input (default: 224)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    tiles = photo_tiles(options.photos)
    results = {
        "augmentation_ms": measure_augmentation(tiles, options.size),
        "reading": {size: measure_reading(tiles, size, options.size, options.turns) for size in MEGAPIXELS},
    }
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for name, milliseconds in results["augmentation_ms"].items():
        print(f"{name:32}{milliseconds:8.2f} ms an image")
    for size, row in results["reading"].items():
        print(f"{size} megapixels")
        for name, rate in row["images_per_second"].items():
            print(f"  {name:32}{rate:8.0f} images/s{row['work_ms'][name]:8.2f} ms of work an image")
        for name, (clock, work) in row["times_as_fast"].items():
            print(f"  {name:32}{clock:8.2f} times as fast{work:8.2f} times by work")


if __name__ == "__main__":
    main()
