"""What another precision costs: `keras-cnn export --precision` after `fit`, judged on images that it has not learned from.

    python benchmarks/precision.py [--photos FOLDER] [--json]

Data sets: the embedded drawings, textures of random colours made here, and the photos of a folder with a subfolder for each
class, if one is named. Of each, EfficientNet-Lite0 is trained by `fit --train head` and by `fit`. A difference is an image's
largest difference of a score. "synthetic" is the largest one on the images made up to be stored with a version, "flat" that
of the one among them with a single colour, "noisy" the same with noise of four gray levels on it: it shows that flat colours
are the worst case, for they are rounded alike at all places.
"""

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from PIL import Image

import keras_cnn as kc
from keras_cnn.serving import PRECISIONS as ALL_PRECISIONS
from keras_cnn.serving import examples
from keras_cnn.serving.network import Network
from pipelines import cli, fine_tune
from pipelines.sample import DIRECTORY

PRECISIONS = [precision for precision in ALL_PRECISIONS if precision != "float32"]
GOLDEN = 9  # images that every version holds
SIDE, IMAGES = 160, 40
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]


def waves(random):
    angle, step = random.uniform(0, np.pi), random.uniform(0.1, 0.5)
    return np.sin(step * (COLUMNS * np.cos(angle) + ROWS * np.sin(angle)))


def checks(random):
    side = random.integers(6, 24)
    return (COLUMNS // side + ROWS // side) % 2 * 2.0 - 1


def dots(random):
    step = random.uniform(0.2, 0.5)
    return (np.sin(step * COLUMNS) * np.sin(step * ROWS) > 0.3) * 2.0 - 1


def rings(random):
    top, left = random.uniform(20, 140, 2)
    return np.sin(random.uniform(0.15, 0.5) * np.hypot(COLUMNS - left, ROWS - top))


def clouds(random):
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]) + 0.01
    found = np.fft.irfft2(np.fft.rfft2(random.normal(size=(SIDE, SIDE))) * frequency**-1.5, (SIDE, SIDE))
    return found / np.abs(found).max()


def grain(random):
    return np.clip(random.normal(size=(SIDE, SIDE)) / 2, -1, 1)


def textures(folder):
    """Forty images of each kind, between two random colours, with noise."""
    random = np.random.default_rng(0)
    for kind in (waves, checks, dots, rings, clouds, grain):
        (folder / kind.__name__).mkdir(parents=True)
        for number in range(IMAGES):
            share, (one, other) = (kind(random)[..., None] + 1) / 2, random.uniform(0, 255, (2, 3))
            pixels = share * one + (1 - share) * other + random.normal(size=(SIDE, SIDE, 1)) * random.uniform(0, 60)
            Image.fromarray(np.clip(pixels, 0, 255).astype("uint8")).save(folder / kind.__name__ / f"{number}.jpg")
    return folder


def synthetic(run, precision):
    """The largest difference of the synthetic images, that of the one of a single colour, and the same with noise."""
    about, metrics = (json.loads((run / f"{name}.json").read_text()) for name in ("settings", "metrics"))
    model, preprocessing = keras.models.load_model(run / "model.keras"), kc.Preprocessing(**about["preprocessing"])
    reference = examples.keras_reference(model, preprocessing, metrics["temperature"])
    served = examples.served_reference(Network(model, precision, metrics["temperature"]), preprocessing)
    golden = [one.content for one in examples.golden_examples(reference) if one.readable]
    pixel = np.asarray(Image.open(io.BytesIO(golden[-1])), "float32")
    noise = np.random.default_rng(0).normal(0, 4, (*preprocessing.size, 3))
    noisy = io.BytesIO()
    Image.fromarray(np.clip(pixel + noise, 0, 255).astype("uint8")).save(noisy, "PNG")
    contents = [*golden, noisy.getvalue()]
    found = [np.abs(reference.record(one).probabilities - served.record(one).probabilities).max() for one in contents]
    return {"synthetic": max(found[:-1]), "flat": found[-2], "noisy": found[-1]}


def exported(run, precision, out):
    """What `export` says; the reason, if it refuses."""
    said, refused = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(refused):
        status = cli.main(["export", str(run), "--precision", precision, "--out", str(out / precision), "--json"])
    return {"refused": refused.getvalue()} if status else json.loads(said.getvalue())["verification"]


def measured(name, data, folder):
    """A row for each way of training and precision."""
    for way, options in (("head", {"train": "head"}), ("default", {})):
        out = folder / f"{name} {way}"
        run = fine_tune(data, out, progress=False, **options).run
        for precision in PRECISIONS:
            found = {**exported(run, precision, out), **synthetic(run, precision)}
            yield {"data": name, "fit": way, "precision": precision, **found}


def line(row):
    texts = [row[name] for name in ("data", "fit", "precision")]
    if "refused" in row:
        return f"| {' | '.join(texts)} | refused: {row['refused'].strip()}"
    texts += [str(row["images"] - GOLDEN)]
    texts += [f"{100 * row['accuracy_before']:.1f} / {100 * row['accuracy']:.1f}", f"{100 * row['agreement']:.1f}"]
    texts += [
        f"{row[name]:.4f}" for name in ("median_difference", "percentile_99_difference", "synthetic", "flat", "noisy")
    ]
    return f"| {' | '.join(texts)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", metavar="FOLDER")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sets = {"drawings": DIRECTORY, "textures": textures(Path(folder, "images"))}
        sets |= {"photos": options.photos} if options.photos else {}
        for name, data in sets.items():
            for row in measured(name, data, Path(folder)):
                print(json.dumps(row, default=float) if options.json else line(row), flush=True)


if __name__ == "__main__":
    sys.exit(main())
