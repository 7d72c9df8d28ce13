"""From labelled photos to a classifier: `fine_tune` beside the recipe of Keras' transfer learning guide, in one run.

    python benchmarks/transfer.py DATA.csv --label fine --split split [--train head all] [--epochs N] [--size PIXELS] [--json]

Both start from files and from the embedded EfficientNet-Lite0, and end with the accuracy on the official test split. The
recipe: a frozen network, flips and rotations, `model.fit` of the head for ten epochs on a cached
`image_dataset_from_directory`. "again" is `fine_tune --train head` a second time, with its features in the cache. Seconds of
`fine_tune` are those of reading, features, solving, training and testing, without the export that follows. Each way runs in a
process of its own, one after another, with an empty cache to begin with.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SIZE, BATCH, EPOCHS = (224, 224), 32, 10
NOT_COUNTED = ("Loading the network", "Exporting and verifying")


def opened(options):
    """The catalog of the table, with splits."""
    from pipelines import Catalog

    return Catalog.from_csv(options.data, label=options.label, split=options.split).check().split(0)


def guide(options, folder):
    """The recipe of https://keras.io/guides/transfer_learning, on links to the files in a folder for each class."""
    import keras
    import tensorflow as tf

    import keras_cnn as kc

    catalog = opened(options)
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
    return {"seconds": time.perf_counter() - start, "test": float(accuracy)}


def ours(options, folder, train):
    """`fine_tune`."""
    from pipelines import fine_tune

    more = {} if train == "head" else {"epochs": options.epochs}
    result = fine_tune(opened(options), folder / "out", train=train, size=options.size, progress=False, **more)
    seconds = {name: value for name, value in result.metrics["seconds"].items() if name not in NOT_COUNTED}
    validation = {name: score["accuracy"] for name, score in result.metrics["validation"].items()}
    return {"seconds": sum(seconds.values()), "test": result.accuracy, "validation": validation, "steps": seconds}


def in_process(options, way, folder):
    """One way in a fresh process."""
    environment = {**os.environ, "KERAS_CNN_CACHE": str(folder / "cache")}
    command = [sys.executable, __file__, *sys.argv[1:], "--way", way, "--folder", str(folder)]
    process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(process.stdout.splitlines()[-1])
    print(f"{way}: {found['seconds']:.1f} s, test {100 * found['test']:.2f} %", found.get("steps", ""), file=sys.stderr)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", metavar="DATA.csv")
    parser.add_argument("--label", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--train", nargs="*", default=["head"], choices=("head", "last", "all"))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--size", type=int)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        run = guide(options, options.folder) if options.way == "guide" else None
        print(json.dumps(run or ours(options, options.folder, options.way.split()[0])))
        return
    with tempfile.TemporaryDirectory() as folder:
        ways = [
            "guide",
            *(way for train in options.train for way in ([train, "head again"] if train == "head" else [train])),
        ]
        found = {way: in_process(options, way, Path(folder)) for way in ways}
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{'way':12}{'seconds':>10}{'guide / way':>13}{'test accuracy':>15}")
    for way, row in found.items():
        print(f"{way:12}{row['seconds']:10.1f}{found['guide']['seconds'] / row['seconds']:13.1f}{row['test']:15.4f}")


if __name__ == "__main__":
    main()
