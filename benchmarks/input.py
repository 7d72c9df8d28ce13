"""First and later epochs compared with Keras' `image_dataset_from_directory`, and what augmentation costs, in one run.

    python benchmarks/input.py [--photos FOLDER] [--turns 5] [--size 224] [--json]

Photos of 0.3, 2 and 12 megapixels are made as mosaics of real ones, without scaling, so that they have the detail of
photos: of those of a folder, or of scikit-image's. "first" decodes every file into an empty cache and then reads one epoch of
batches; "later" is an epoch from that cache. Ratios are given by elapsed time and by processor time, which other programs on
the machine disturb less.
"""

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import harness
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
# Millions of pixels -> height and width, number of different files, number of links to each.
MEGAPIXELS = {0.3: ((480, 640), 200, 20), 2: ((1200, 1600), 60, 12), 12: ((3000, 4000), 16, 8)}


def make_photos(folder, tiles, size, count, copies):
    """`count` JPEG files in two classes, each a mosaic of random parts of real photos, with `copies` names each."""
    random = np.random.default_rng(0)
    height, width = size
    for number in range(count):
        mosaic = np.zeros((height, width, 3), "uint8")
        for top in range(0, height, 240):
            for left in range(0, width, 240):
                tile = tiles[random.integers(len(tiles))]
                y, x = random.integers(tile.shape[0] - 239), random.integers(tile.shape[1] - 239)
                part = mosaic[top : top + 240, left : left + 240]
                part[:] = tile[y : y + part.shape[0], x : x + part.shape[1]]
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


def ours(paths, size):
    """Elapsed and processor seconds of a first epoch, and of a later one."""
    with tempfile.TemporaryDirectory() as folder:

        def batches():
            source = load_images(paths, kc.Preprocessing(size), ArrayCache(folder))
            return ImageBatches(source, np.arange(len(paths)) % 2, (size, size), BATCH_SIZE, classes=2)

        _, first = harness.timed(lambda: harness.consume(batches()(0)))
        count, later = max(1, 4000 // len(paths)), batches()
        _, seconds = harness.timed(lambda: harness.consume(later.epochs(count)))
        return first, np.array(seconds) / count


def of_keras(folder, size):
    """An epoch of Keras' data set, which resizes without anti-aliasing."""
    options = {"image_size": (size, size), "batch_size": BATCH_SIZE, "shuffle": False, "verbose": False}
    harness.consume(keras.utils.image_dataset_from_directory(folder, label_mode="categorical", **options).prefetch(2))


def of_keras_smooth(paths, size):
    """The same steps with anti-aliasing."""

    def load(path):
        image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
        return tf.image.resize(image, (size, size), antialias=True)

    files = tf.data.Dataset.from_tensor_slices(paths)
    harness.consume(files.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH_SIZE).prefetch(2))


def measure_reading(tiles, megapixels, size, turns):
    """A row for each epoch with medians, and a row for each pair of them with the median of the ratios within a turn."""
    with tempfile.TemporaryDirectory() as folder:
        make_photos(folder, tiles, *MEGAPIXELS[megapixels])
        paths = sorted(map(str, Path(folder).rglob("*.jpg")))
        functions = {
            "ours": lambda: ours(paths, size),
            "Keras": lambda: harness.timed(of_keras, folder, size)[1],
            "Keras, anti-aliased": lambda: harness.timed(of_keras_smooth, paths, size)[1],
        }
        found = harness.take_turns(functions, turns)
    first, later = zip(*found.pop("ours"), strict=True)
    times = {"first": first, "later": later, **found}
    times = {name: np.array(values) for name, values in times.items()}  # turn, elapsed or processor time
    for name, values in times.items():
        elapsed, processor = np.median(values, axis=0) / len(paths)
        row = {"images_per_second": 1 / elapsed, "processor_ms_per_image": 1000 * processor}
        yield {"megapixels": megapixels, "measured": name, **row}
    for slow, fast in (("Keras", "first"), ("Keras, anti-aliased", "first"), ("first", "later")):
        elapsed, processor = np.median(times[slow] / times[fast], axis=0)
        row = {"times_as_fast": elapsed, "by_processor_time": processor}
        yield {"megapixels": megapixels, "measured": f"{fast}, compared with {slow}", **row}


def processor_ms(function, count):
    """Milliseconds of processor time per image: the least of five passes."""
    function()
    return 1000 * min(harness.timed(function)[1].processor for _ in range(5)) / count


def measure_augmentation(tiles, size):
    """A row for each preset, and for Keras' layers and the nearest of ours."""
    count = 4 * BATCH_SIZE
    random = np.random.default_rng(0)
    squares = [tiles[number][:240, :240] for number in random.integers(len(tiles), size=count)]

    def batches(augmentation):
        stored_size = augmentation.stored_size((size, size))
        images = tf.cast(tf.round(tf.image.resize(squares, stored_size)), tf.uint8).numpy()
        found = ImageBatches(
            images, np.arange(count) % 2, (size, size), BATCH_SIZE, classes=2, augmentation=augmentation
        )
        return processor_ms(lambda: harness.consume(found(0)), count)

    def layers(*parts):
        images = tf.data.Dataset.from_tensor_slices(np.float32(tf.image.resize(squares, (size, size)))).batch(
            BATCH_SIZE
        )

        def apply(images):
            for part in parts:
                images = part(images, training=True)
            return images

        return processor_ms(lambda: harness.consume(images.map(apply, num_parallel_calls=2).prefetch(2)), count)

    make, light = keras.layers, PRESETS["light"]
    jitter = make.RandomColorJitter(
        value_range=(0, 255), brightness_factor=0.2, contrast_factor=0.2, saturation_factor=0.2
    )
    found = {
        **{f"preset {name}": batches(augmentation) for name, augmentation in PRESETS.items()},
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
    for name, milliseconds in found.items():
        yield {"measured": name, "processor_ms_per_image": milliseconds}


def rows(options):
    tiles = photo_tiles(options.photos)
    yield from measure_augmentation(tiles, options.size)
    for megapixels in MEGAPIXELS:
        yield from measure_reading(tiles, megapixels, options.size, options.turns)


def main():
    parser = harness.parser(__doc__, turns=5)
    parser.add_argument("--photos", metavar="FOLDER", help="a folder with JPEG photos (default: those of scikit-image)")
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels (default: %(default)s)")
    options = parser.parse_args()
    harness.show(harness.echo(rows(options)), options.json)


if __name__ == "__main__":
    main()
