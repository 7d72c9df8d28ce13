"""Images a second, from JPEG files to batches of 224 x 224 pixels, beside libjpeg-turbo and Keras, in one run.

    pip install simplejpeg scikit-image
    python benchmarks/decoding.py [--turns 7] [--megapixels 2] [--photos FOLDER] [--json]

- simplejpeg: libjpeg-turbo, which decodes at the smallest fraction that is large enough, and nothing else; no resizing.
- keras_cnn: `keras_cnn.images.prepare` in `tf.data`.
- keras: `keras.utils.image_dataset_from_directory`, which decodes at full size and resizes without anti-aliasing.
- keras, anti-aliased: the same operations, with `tf.image.resize(..., antialias=True)`.

All use as many threads as there are cores. They take turns, so that whatever else the machine does falls on all. A turn
starts its pipeline anew and does not count its first batch. Rates and milliseconds of processor time an image are medians;
ratios are those of the rates within a turn, with quartiles, and of the least processor times, which other work on the
machine disturbs least.

The photos are made of real ones, from scikit-image or from a folder: enlarged to twice their size at most, put side by
side, with the noise of a sensor, and saved as cameras do (quality 90, 4:2:0).
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

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
# Millions of pixels: width, height, how many different photos, and how many files of them.
PHOTOS = {0.3: (640, 480, 32, 1536), 2.0: (1600, 1200, 24, 480), 12.0: (4000, 3000, 8, 128)}
FROM_SKIMAGE = ("astronaut", "cat", "coffee", "hubble_deep_field", "immunohistochemistry", "retina", "rocket")


def sources(folder):
    """Real photos, as Pillow images."""
    if folder:
        paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
        return [Image.open(path).convert("RGB") for path in paths[:: max(1, len(paths) // 60)]]
    return [Image.fromarray(getattr(data, name)()) for name in FROM_SKIMAGE]


def mosaic(photos, width, height, chance):
    """A photo of the wanted size out of others at one to two times theirs, mirrored or not, with noise."""
    result, top = Image.new("RGB", (width, height)), 0
    while top < height:
        left, step = 0, 0
        while left < width:
            part = photos[chance.integers(len(photos))]
            times = chance.uniform(1, 2)
            part = part.resize((round(part.width * times), round(part.height * times)), Image.Resampling.LANCZOS)
            part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if chance.integers(2) else part
            result.paste(part, (left, top))
            left, step = left + part.width, max(step, part.height)
        top += step
    noise = chance.normal(0, 2, (height, width, 1)) + chance.normal(0, 1, (height, width, 3))
    return Image.fromarray((np.asarray(result) + noise).round().clip(0, 255).astype("uint8"))


def write_photos(folder, photos, width, height, different, count):
    """`count` files in two classes, and their bytes a pixel. Files of the same photo share their blocks on the disk."""
    chance = np.random.default_rng(0)
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
    for index in range(count):
        path = folder / "ab"[index % 2] / f"{index:05}.jpg"
        if index < different:
            mosaic(photos, width, height, chance).save(path, quality=90, subsampling=2)
        else:
            first = index % different
            os.link(folder / "ab"[first % 2] / f"{first:05}.jpg", path)
    paths = sorted(folder.rglob("*.jpg"))
    return paths, statistics.mean(path.stat().st_size for path in paths) / (width * height)


def times():
    """Seconds that have passed, and seconds that all threads of this process have worked."""
    return np.array([time.perf_counter(), time.process_time()])


def spent(start, count):
    """Images a second, and milliseconds of work an image."""
    passed, worked = times() - start
    return count / passed, 1000 * worked / count


def libjpeg_turbo(paths):
    def decode(path):
        return simplejpeg.decode_jpeg(path.read_bytes(), min_height=SIZE, min_width=SIZE).shape

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode, paths[:BATCH]))
        start = times()
        list(pool.map(decode, paths[BATCH:]))
        return spent(start, len(paths) - BATCH)


def pipeline(paths, load):
    files = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    images = files.map(lambda path: load(tf.io.read_file(path)), num_parallel_calls=os.cpu_count())
    return images.batch(BATCH)


def rate(dataset, count):
    batches = iter(dataset)
    next(batches)
    start = times()
    for _ in batches:
        pass
    return spent(start, count - BATCH)


def anti_aliased(content):
    image = tf.io.decode_image(content, channels=3, expand_animations=False)
    return tf.ensure_shape(tf.image.resize(image, (SIZE, SIZE), antialias=True), (SIZE, SIZE, 3))


def systems(folder, paths):
    """name -> a function that runs over all files and gives what `spent` gives."""
    record, count = kc.Preprocessing(SIZE), len(paths)
    ours = pipeline(paths, lambda content: kc.images.prepare(content, record))
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


def measure(runs, turns):
    """name -> (rates, milliseconds) of all turns; the order changes from turn to turn."""
    found = {name: [] for name in runs}
    for turn in range(turns):
        names = list(runs)[turn % len(runs) :] + list(runs)[: turn % len(runs)]
        for name in names:
            found[name].append(runs[name]())
    return {name: tuple(zip(*values, strict=True)) for name, values in found.items()}


def summary(found):
    """Medians, and ratios of the speed of keras_cnn to that of the others."""
    ours, our_milliseconds = found["keras_cnn"]
    result = {}
    for name, (rates, milliseconds) in found.items():
        ratios = [one / other for one, other in zip(ours, rates, strict=True)]
        result[name] = {
            "images_per_second": statistics.median(rates),
            "milliseconds_of_work": statistics.median(milliseconds),
            "ratio": statistics.median(ratios),
            "quartiles": statistics.quantiles(ratios, n=4)[::2] if len(ratios) > 1 else ratios * 2,
            "ratio_by_work": min(milliseconds) / min(our_milliseconds),
        }
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=7, help="turns of each (default: 7)")
    parser.add_argument("--megapixels", type=float, choices=PHOTOS, help="one size only")
    parser.add_argument("--photos", help="a folder with photos (default: those of scikit-image)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    results = {}
    for megapixels, (width, height, *numbers) in PHOTOS.items():
        if options.megapixels not in (None, megapixels):
            continue
        with tempfile.TemporaryDirectory() as folder:
            paths, density = write_photos(Path(folder) / "photos", sources(options.photos), width, height, *numbers)
            found = summary(measure(systems(Path(folder) / "photos", paths), options.turns))
        results[megapixels] = {"bytes_per_pixel": density, "systems": found}
        if not options.json:
            print(f"{megapixels} megapixels, {width} x {height}, {density:.2f} bytes a pixel")
            print("                            rate  ms of work   keras_cnn to it (quartiles)   by work")
            for name, row in found.items():
                quartiles = "({:.2f}-{:.2f})".format(*row["quartiles"])
                times = f"{row['images_per_second']:9.1f}{row['milliseconds_of_work']:12.2f}"
                print(f"  {name:21}{times}{row['ratio']:12.2f} {quartiles:18}{row['ratio_by_work']:9.2f}")
    if options.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
