"""What another precision costs: `keras-cnn export --precision` after `fit`, on images that were not trained on.

    python benchmarks/precision.py [--photos FOLDER] [--json]

Data sets: the embedded drawings, textures of random colours made here, and with `--photos` those of a folder with a subfolder
per class. On each, EfficientNet-Lite0 is trained by `fit --train head` and by `fit`. A difference is an image's largest
difference of a probability. "synthetic" is the largest one on the synthetic images that a version stores, "flat" that of the
one among them with a single colour, "noisy" the same with noise of four gray levels on it: it shows that flat colours are the
worst case, because rounding is the same at all positions.
"""

import contextlib
import io
import json
import tempfile
from pathlib import Path

import harness
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
GOLDEN = 9  # images that every version stores
SHOWN = (
    *("data", "fit", "precision", "test_images", "accuracy_before", "accuracy", "agreement"),
    *("median_difference", "percentile_99_difference", "synthetic", "flat", "noisy", "refused"),
)
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
    """The largest difference on the synthetic images, that on the one with a single colour, and the same with noise."""
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


def export(run, precision, out):
    """What `export` measures, or why it refuses."""
    answer, refusal = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(answer), contextlib.redirect_stderr(refusal):
        status = cli.main(["export", str(run), "--precision", precision, "--out", str(out / precision), "--json"])
    if status:
        return {"refused": refusal.getvalue().strip()}
    verification = json.loads(answer.getvalue())["verification"]
    return {"test_images": verification["images"] - GOLDEN, **verification}


def measure(name, data, folder):
    """A row for each training and precision."""
    for training, options in (("head", {"train": "head"}), ("default", {})):
        out = folder / f"{name} {training}"
        run = fine_tune(data, out, progress=False, **options).run
        for precision in PRECISIONS:
            found = {**export(run, precision, out), **synthetic(run, precision)}
            yield {"data": name, "fit": training, "precision": precision, **found}


def main():
    parser = harness.parser(__doc__)
    parser.add_argument("--photos", metavar="FOLDER", help="photos with a subfolder per class, one more data set")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sets = {"drawings": DIRECTORY, "textures": textures(Path(folder, "images"))}
        sets |= {"photos": options.photos} if options.photos else {}
        rows = (row for name, data in sets.items() for row in measure(name, data, Path(folder)))
        harness.show(harness.echo(rows), options.json, SHOWN)


if __name__ == "__main__":
    main()
