"""From labelled photos to a classifier: `fine_tune` and the recipe of Keras' transfer learning guide, in one run.

    python benchmarks/transfer.py DATA.csv --label fine --split split [--train head all] [--epochs N] [--size PIXELS] [--json]

Both start from files and from the embedded EfficientNet-Lite0, and end with the accuracy on the official test split. The
recipe: a frozen network, flips and rotations, `model.fit` of the head for ten epochs on a cached
`image_dataset_from_directory`. "again" is `fine_tune --train head` a second time, with its features in the cache. Seconds of
`fine_tune` are those of reading, features, the linear probe, training and testing, without the export that follows. Each method
runs in a process of its own, one after another; the cache is empty at first.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness

SIZE, BATCH, EPOCHS = (224, 224), 32, 10
NOT_COUNTED = ("Loading the network", "Exporting and verifying")
SHOWN = ("method", "seconds", "guide / this", "test_accuracy")


def load_catalog(options):
    """The catalog of the table, with splits."""
    from pipelines import Catalog

    return Catalog.from_csv(options.data, label=options.label, split=options.split).check().split(0)


def guide(options, folder):
    """The recipe of https://keras.io/guides/transfer_learning, on links to the files in a folder for each class."""
    import keras
    import tensorflow as tf

    import keras_cnn as kc

    catalog = load_catalog(options)
    for split in ("train", "validation", "test"):
        for label in catalog.classes:  # Keras wants all of them, with images or without
            (folder / split / label).mkdir(parents=True)
        for row in catalog.included(split):
            path = folder / split / str(catalog.labels[row]) / f"{row}{Path(catalog.paths[row]).suffix}"
            path.symlink_to(Path(catalog.paths[row]).resolve())
    base = kc.load_backbone("efficientnet_lite0").model
    base.trainable = False
    start = time.perf_counter()

    def dataset(split):
        found = keras.utils.image_dataset_from_directory(
            folder / split, class_names=list(catalog.classes), image_size=SIZE, batch_size=BATCH, verbose=False
        )
        return found.cache().prefetch(tf.data.AUTOTUNE)

    inputs = keras.Input((*SIZE, 3))
    x = keras.layers.RandomRotation(0.1)(keras.layers.RandomFlip("horizontal")(inputs))
    x = keras.layers.GlobalAveragePooling2D()(base(x, training=False))
    outputs = keras.layers.Dense(len(catalog.classes), activation="softmax")(keras.layers.Dropout(0.2)(x))
    model = keras.Model(inputs, outputs)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(dataset("train"), epochs=EPOCHS, validation_data=dataset("validation"), verbose=0)
    _, accuracy = model.evaluate(dataset("test"), verbose=0)
    return {"seconds": time.perf_counter() - start, "test_accuracy": float(accuracy)}


def ours(options, folder, train):
    """The seconds and the accuracies of `fine_tune`."""
    from pipelines import fine_tune

    more = {} if train == "head" else {"epochs": options.epochs}
    result = fine_tune(load_catalog(options), folder / "out", train=train, size=options.size, progress=False, **more)
    seconds = {name: value for name, value in result.metrics["seconds"].items() if name not in NOT_COUNTED}
    validation = {name: score["accuracy"] for name, score in result.metrics["validation"].items()}
    return {
        "seconds": sum(seconds.values()),
        "test_accuracy": result.accuracy,
        "validation": validation,
        "steps": seconds,
    }


def in_process(options, method, folder):
    """One method in a fresh process."""
    environment = {**os.environ, "KERAS_CNN_CACHE": str(folder / "cache")}
    command = [sys.executable, __file__, *sys.argv[1:], "--method", method, "--folder", str(folder)]
    process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return {"method": method, **json.loads(process.stdout.splitlines()[-1])}


def rows(options, folder):
    """A row for each method; the guide is the first."""
    methods = ["guide"]
    for train in options.train:
        methods += [train, "head again"] if train == "head" else [train]
    seconds_of_guide = None
    for method in methods:
        row = in_process(options, method, folder)
        seconds_of_guide = seconds_of_guide or row["seconds"]
        yield {**row, "guide / this": seconds_of_guide / row["seconds"]}


def main():
    parser = harness.parser(__doc__)
    parser.add_argument("data", metavar="DATA.csv", help="a table of images")
    parser.add_argument("--label", required=True, help="its column of labels")
    parser.add_argument("--split", required=True, help="its column of splits")
    parser.add_argument("--train", nargs="*", default=["head"], choices=("head", "last", "all"), help="(default: head)")
    parser.add_argument("--epochs", type=int, help="of fine_tune, except with head (default: that of fine_tune)")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="of fine_tune (default: that of fine_tune)")
    parser.add_argument("--method", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.method == "guide":
        print(json.dumps(guide(options, options.folder)))
    elif options.method:
        print(json.dumps(ours(options, options.folder, options.method.split()[0])))
    else:
        with tempfile.TemporaryDirectory() as folder:
            harness.show(harness.echo(rows(options, Path(folder))), options.json, SHOWN)


if __name__ == "__main__":
    main()
