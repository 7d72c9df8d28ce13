"""Transfer learning by other libraries and by `fine_tune`: the same weights, data, split, image size and processor time.

    python benchmarks/peers.py [--table DATA.csv --label LABEL --split SPLIT] [--folder FOLDER] [--per-class N]
        [--contenders ours fastai timm keras_guide keras_hub] [--set NAME=VALUE ...] [--seconds SECONDS] [--size PIXELS]
        [--seed N] [--threads N] [--environment FOLDER] [--json]

The data are the embedded drawings, or yours. With `--per-class`, N images of each class are drawn from its training images,
and a fifth of them is for validation; the test images are always all. `fine_tune` runs by default, and again with the
settings of `--set`. The others train for as many epochs as fit into `--seconds`, by default what `fine_tune` took; a few
steps at the beginning show how long an epoch takes. All seconds are processor seconds of all threads, for training and
validation: without starting, loading the network and the test. Each contender runs in a process of its own, one after
another, with EfficientNet-Lite0; it stops unless its pooled features are those of `keras_cnn`. Validation and test images
are the same arrays for all, as `fine_tune` sees them: squashed to the size, from the middle 7/8 of height and width; with few
images `fine_tune` may choose the whole image by validation. The recipes are in the docstrings of `benchmarks/peers/`.

The first run installs PyTorch, torchvision, timm, fastai and KerasHub from the package index into `--environment`, or else
into a temporary folder: 8 GB on Linux, most of it for GPUs, because the package index has no smaller PyTorch.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import venv
from dataclasses import replace
from pathlib import Path

import harness
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(1, str(HERE / "peers"))

from job import CHECKED, Job  # noqa: E402

REQUIREMENTS = ("torch", "torchvision", "timm", "fastai", "keras-hub")
SCRIPTS = {
    "ours": "ours.py",
    "fastai": "fastai_fine_tune.py",
    "timm": "timm_recipe.py",
    "keras_guide": "keras_guide.py",
    "keras_hub": "keras_hub_classifier.py",
}
IN_PROJECT = ("ours", "keras_guide")  # what runs with this Python; the others have an environment of their own
VALIDATION_SHARE = 0.2
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
SHOWN = (
    "contender",
    "test_accuracy",
    "interval",
    "validation",
    "epochs",
    "seconds",
    "images_per_second",
    "seconds_to_95_percent",
)


def draw_subset(labels, splits, per_class, seed):
    """The splits after `per_class` images of each class are drawn from the training images; "" for the others.

    A fifth of those becomes validation, at least one unless there is only one; the former validation images are not used.
    Test images stay.
    """
    random = np.random.default_rng(seed)
    labels, splits = np.array(labels), np.array(splits)
    found = np.where(splits == "test", splits, np.array("", dtype="U10"))
    for label in np.unique(labels):
        drawn = random.permutation(np.flatnonzero((labels == label) & (splits == "train")))[:per_class]
        held_out = max(min(1, len(drawn) - 1), round(VALIDATION_SHARE * len(drawn)))
        found[drawn[:held_out]], found[drawn[held_out:]] = "validation", "train"
    return found.tolist()


def seconds_to(curve, share=0.95):
    """The first second at which validation accuracy is at least a share of the last one."""
    return next(seconds for seconds, accuracy in curve if accuracy >= share * curve[-1][1])


def load_catalog(options):
    """The catalog with splits, of the whole data or of a subset."""
    from pipelines import Catalog
    from pipelines.sample import DIRECTORY

    if options.table:
        catalog = Catalog.from_csv(options.table, label=options.label, split=options.split)
    else:
        catalog = Catalog.from_folder(options.folder or DIRECTORY)
    catalog = catalog.check().split(options.seed)
    if catalog.multi_label:
        raise SystemExit("The images must have one label each. Received: several. Name one column by --label.")
    if options.per_class is None:
        return catalog
    rows = catalog.included()
    splits = draw_subset(
        [catalog.labels[row] for row in rows], [catalog.splits[row] for row in rows], options.per_class, options.seed
    )
    found = dict(zip(rows.tolist(), splits, strict=True))
    unused = {row: "not drawn" for row, split in found.items() if not split}
    return replace(catalog, splits=tuple(found.get(row, "") for row in range(len(catalog.paths)))).exclude(unused)


def write_images(paths, size, target):
    """All images as `fine_tune` sees them, as one uint8 array in a file."""
    from keras_cnn import Preprocessing
    from keras_cnn.images import prepare
    from pipelines.defaults import CROP_FRACTION

    preprocessing = Preprocessing(size, crop_fraction=CROP_FRACTION)
    arrays = np.lib.format.open_memmap(target, "w+", np.uint8, (len(paths), size, size, 3))
    for array, path in zip(arrays, paths, strict=True):
        array[:] = np.rint(prepare(Path(path).read_bytes(), preprocessing))
    arrays.flush()


def write_features(job):
    """The pooled features of the first test images, by `keras_cnn`."""
    import keras_cnn as kc

    model = kc.load_backbone("efficientnet_lite0", (job.size, job.size, 3)).model
    images, _ = job.images("test")
    np.save(job.features, model.predict(images[:CHECKED], verbose=0).mean((1, 2)))


def prepare_job(options, folder):
    """The job that is the same for all contenders, but for its folder and seconds."""
    from keras_cnn.backbones.efficientnet_lite import EMBEDDED

    catalog = load_catalog(options)
    rows = catalog.included()
    job = Job(
        classes=list(catalog.classes),
        paths=[os.path.abspath(catalog.paths[row]) for row in rows],
        labels=catalog.targets(rows).tolist(),
        splits=[catalog.splits[row] for row in rows],
        table=str(folder / "table.csv"),
        arrays=str(folder / "images.npy"),
        weights=str(EMBEDDED),
        features=str(folder / "features.npy"),
        folder=str(folder),
        size=options.size,
        seconds=options.seconds,
        seed=options.seed,
        settings={},
    )
    with open(job.table, "w", encoding="utf-8", newline="") as file:
        labels = [job.classes[label] for label in job.labels]
        csv.writer(file).writerows([("path", "label", "split"), *zip(job.paths, labels, job.splits, strict=True)])
    write_images(job.paths, job.size, job.arrays)
    write_features(job)
    return job


def python_of(folder):
    """The Python of an environment with the other libraries, which is made unless it exists."""
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        print(f"Installing {', '.join(REQUIREMENTS)} into {folder}", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        complete.touch()
    return python


def run(contender, job, python, threads):
    """The row of one contender, which runs in a process and a folder of its own."""
    from pipelines.evaluation.single_label import wilson_interval

    with tempfile.TemporaryDirectory(dir=job.folder) as folder:
        environment = {
            **os.environ,
            **dict.fromkeys(THREADS, str(threads)),
            "OMP_WAIT_POLICY": "passive",  # otherwise a thread that waits uses its processor, several times as much as work
            "KERAS_BACKEND": "tensorflow",
            "KERAS_CNN_CACHE": f"{folder}/cache",
            "PYTHONPATH": str(HERE.parent) if contender in IN_PROJECT else "",
        }
        command = [python, HERE / "peers" / SCRIPTS[contender], replace(job, folder=folder).save()]
        process = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if process.returncode:
            raise SystemExit(f"{contender} failed:\n{process.stdout[-4000:]}")
        result = json.loads((Path(folder) / "result.json").read_text(encoding="utf-8"))
    row = {
        "contender": contender + "".join(f" {name}={value}" for name, value in job.settings.items()),
        "test_accuracy": result["correct"] / result["test_images"],
        "interval": wilson_interval(result["correct"], result["test_images"]),
        **result,
        "seconds_to_95_percent": seconds_to(result["curve"]),
        "budget": job.seconds,
        "images": {split: job.splits.count(split) for split in ("train", "validation", "test")},
        "classes": len(job.classes),
        "size": job.size,
        "seed": job.seed,
    }
    harness.consume(harness.echo([{name: row[name] for name in SHOWN}]))
    return row


def rows(options, job, folder):
    """A row for each contender; `fine_tune` comes first, because it may say how many seconds the others have."""
    seconds = options.seconds
    settings = dict(pair.split("=", 1) for pair in options.set)
    settings = {name: parse(value) for name, value in settings.items()}
    for each in [{}, settings] if settings else [{}]:
        if "ours" in options.contenders:
            row = run("ours", replace(job, settings=each, seconds=None), sys.executable, options.threads)
            seconds = seconds or row["seconds"]
            yield row
    for contender in SCRIPTS:
        if contender in options.contenders and contender != "ours":
            python = sys.executable if contender in IN_PROJECT else python_of(options.environment or folder / "venv")
            yield run(contender, replace(job, seconds=seconds), python, options.threads)


def parse(value):
    """A value of `--set`: a number, true or false, or else a word."""
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def main():
    parser = harness.parser(__doc__)
    parser.add_argument("--table", metavar="DATA.csv", help="a table of image files (default: the embedded drawings)")
    parser.add_argument("--label", help="the table's column of labels")
    parser.add_argument("--split", help="the table's column of splits")
    parser.add_argument("--folder", help="a folder with one folder of images per class, instead of a table")
    parser.add_argument("--per-class", type=int, metavar="N", help="training and validation images (default: all)")
    parser.add_argument("--contenders", nargs="+", default=list(SCRIPTS), choices=SCRIPTS, help="(default: all)")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of a second `fine_tune`")
    parser.add_argument("--seconds", type=float, help="of the others (default: as many as `fine_tune` took)")
    parser.add_argument("--size", type=int, default=224, metavar="PIXELS", help="height, width (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of subset, splits and training (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of each (default: %(default)s)")
    parser.add_argument("--environment", type=Path, metavar="FOLDER", help="where the other libraries are or will be")
    options = parser.parse_args()
    if options.per_class is not None and options.per_class < 2:
        parser.error(f"--per-class must be at least 2, one for training. Received: {options.per_class}.")
    if options.seconds is None and "ours" not in options.contenders:
        parser.error("--seconds is needed where ours does not run.")
    with tempfile.TemporaryDirectory() as folder:
        job = prepare_job(options, Path(folder))
        harness.show(list(rows(options, job, Path(folder))), options.json, SHOWN)


if __name__ == "__main__":
    main()
