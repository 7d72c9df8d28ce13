"""Images per second, from JPEG files to batches of 224 x 224 pixels, compared with libjpeg-turbo and Keras, in one run.

    pip install simplejpeg scikit-image
    python benchmarks/decoding.py [--turns 7] [--megapixels 2] [--photos FOLDER] [--json]

- simplejpeg: libjpeg-turbo, which decodes at the smallest fraction that is large enough; no resizing.
- keras_cnn: `keras_cnn.images.prepare` in `tf.data`.
- keras: `keras.utils.image_dataset_from_directory`, which decodes at full size and resizes without anti-aliasing.
- keras, anti-aliased: the same operations, with `tf.image.resize(..., antialias=True)`.

All use as many threads as there are cores, and take turns. A turn starts its pipeline again and does not count its first
batch. Rates and milliseconds of processor time are medians. The ratios are those of the rates within a turn, with quartiles,
and those of the least processor times, which other work on the machine disturbs least.

The photos are made of real ones, from scikit-image or from a folder: enlarged to twice their size at most, put side by
side, with the noise of a sensor, and saved as cameras do (quality 90, 4:2:0).
"""

import os
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import harness
import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from skimage import data

import keras_cnn as kc

try:
    import simplejpeg
except ImportError:
    raise SystemExit("benchmarks/decoding.py needs simplejpeg: pip install simplejpeg") from None

SIZE, BATCH = 224, 16
# Millions of pixels -> width, height, number of different photos, number of files.
PHOTOS = {0.3: (640, 480, 32, 1536), 2.0: (1600, 1200, 24, 480), 12.0: (4000, 3000, 8, 128)}
FROM_SKIMAGE = ("astronaut", "cat", "coffee", "hubble_deep_field", "immunohistochemistry", "retina", "rocket")


def sources(folder):
    """Real photos, as Pillow images."""
    if folder:
        paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
        return [Image.open(path).convert("RGB") for path in paths[:: max(1, len(paths) // 60)]]
    return [Image.fromarray(getattr(data, name)()) for name in FROM_SKIMAGE]


def mosaic(photos, width, height, random):
    """A photo of the given size made of others, enlarged up to twice and flipped at random, with noise."""
    result, top = Image.new("RGB", (width, height)), 0
    while top < height:
        left, step = 0, 0
        while left < width:
            part = photos[random.integers(len(photos))]
            times = random.uniform(1, 2)
            part = part.resize((round(part.width * times), round(part.height * times)), Image.Resampling.LANCZOS)
            part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.integers(2) else part
            result.paste(part, (left, top))
            left, step = left + part.width, max(step, part.height)
        top += step
    noise = random.normal(0, 2, (height, width, 1)) + random.normal(0, 1, (height, width, 3))
    return Image.fromarray((np.asarray(result) + noise).round().clip(0, 255).astype("uint8"))


def write_photos(folder, photos, width, height, different, count):
    """`count` files in two classes, and their bytes per pixel. Files of the same photo share their blocks on the disk."""
    random = np.random.default_rng(0)
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
    for index in range(count):
        path = folder / "ab"[index % 2] / f"{index:05}.jpg"
        if index < different:
            mosaic(photos, width, height, random).save(path, quality=90, subsampling=2)
        else:
            first = index % different
            os.link(folder / "ab"[first % 2] / f"{first:05}.jpg", path)
    paths = sorted(folder.rglob("*.jpg"))
    return paths, statistics.mean(path.stat().st_size for path in paths) / (width * height)


def measured(function, count):
    """Images per second, and milliseconds of processor time per image."""
    _, seconds = harness.timed(function)
    return count / seconds.elapsed, 1000 * seconds.processor / count


def libjpeg_turbo(paths):
    def decode(path):
        return simplejpeg.decode_jpeg(path.read_bytes(), min_height=SIZE, min_width=SIZE).shape

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode, paths[:BATCH]))
        return measured(lambda: list(pool.map(decode, paths[BATCH:])), len(paths) - BATCH)


def pipeline(paths, load):
    files = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    images = files.map(lambda path: load(tf.io.read_file(path)), num_parallel_calls=os.cpu_count())
    return images.batch(BATCH)


def rate(dataset, count):
    batches = iter(dataset)
    next(batches)
    return measured(lambda: harness.consume(batches), count - BATCH)


def anti_aliased(content):
    image = tf.io.decode_image(content, channels=3, expand_animations=False)
    return tf.ensure_shape(tf.image.resize(image, (SIZE, SIZE), antialias=True), (SIZE, SIZE, 3))


def systems(folder, paths):
    """name -> a function that reads all files and returns what `measured` returns."""
    preprocessing, count = kc.Preprocessing(SIZE), len(paths)
    ours = pipeline(paths, lambda content: kc.images.prepare(content, preprocessing))
    of_keras = keras.utils.image_dataset_from_directory(
        folder, image_size=(SIZE, SIZE), batch_size=BATCH, shuffle=False, verbose=False
    )
    smooth = pipeline(paths, anti_aliased)
    return {
        "simplejpeg": lambda: libjpeg_turbo(paths),
        "keras_cnn": lambda: rate(ours, count),
        "keras": lambda: rate(of_keras, count),
        "keras, anti-aliased": lambda: rate(smooth, count),
    }


def summary(found):
    """A row for each system. The ratio is the speed of keras_cnn divided by that of the system."""
    our_rates, our_milliseconds = zip(*found["keras_cnn"], strict=True)
    for name, values in found.items():
        rates, milliseconds = zip(*values, strict=True)
        ratios = harness.paired_ratios(our_rates, rates)
        yield {
            "system": name,
            "images_per_second": statistics.median(rates),
            "processor_ms_per_image": statistics.median(milliseconds),
            "ratio": statistics.median(ratios),
            "quartiles": harness.quartiles(ratios),
            "by_processor_time": min(milliseconds) / min(our_milliseconds),
        }


def measure(megapixels, turns, folder):
    """The rows of one size of photos."""
    width, height, *numbers = PHOTOS[megapixels]
    with tempfile.TemporaryDirectory() as temporary:
        photos = Path(temporary) / "photos"
        paths, density = write_photos(photos, sources(folder), width, height, *numbers)
        found = harness.take_turns(systems(photos, paths), turns, warmup=0)
    for row in summary(found):
        yield {"megapixels": megapixels, "bytes_per_pixel": density, **row}


def main():
    parser = harness.parser(__doc__, turns=7)
    parser.add_argument("--megapixels", type=float, choices=PHOTOS, help="one size only (default: all)")
    parser.add_argument("--photos", metavar="FOLDER", help="a folder with photos (default: those of scikit-image)")
    options = parser.parse_args()
    sizes = [options.megapixels] if options.megapixels else PHOTOS
    rows = (row for size in sizes for row in measure(size, options.turns, options.photos))
    harness.show(harness.echo(rows), options.json)


if __name__ == "__main__":
    main()
