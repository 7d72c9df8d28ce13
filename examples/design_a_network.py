"""Design a network: put it together, look at its geometry, train it on the sample data, draw it.

    python examples/design_a_network.py --epochs 20 --out network.png

It takes less than a minute on two cores. An inception, a separable and a residual stage follow each other, so the
table that is printed compares them: how many parameters each has, and how large its receptive field is.
"""

import argparse
import math
from functools import partial

import keras
import numpy as np

import keras_cnn as kc
from pipelines.sample import DIRECTORY

SIZE, BATCH = 64, 16


def network(classes: int) -> keras.Model:
    """A network of four stages, each of which halves the map at its start."""
    # Keras' momentum of 0.99 is for long trainings: after the 200 steps of this one the first steps would still count.
    norm = partial(keras.layers.BatchNormalization, momentum=0.9)
    conv = partial(kc.blocks.conv_norm_act, norm=norm)
    inception = partial(kc.blocks.inception, norm=norm)
    separable = partial(kc.blocks.depthwise_separable, norm=norm)
    residual = partial(kc.blocks.residual, norm=norm)
    branches = [[(16, 1)], [(16, 1), (24, 3)], [(8, 1), (12, (1, 5)), (12, (5, 1))], [("max", 3), (12, 1)]]
    return kc.build(
        input_shape=(SIZE, SIZE, 3),
        stages={
            "stem": [
                keras.layers.Rescaling(1 / 127.5, offset=-1),
                keras.layers.RandomFlip("horizontal"),
                keras.layers.RandomTranslation(0.1, 0.1),
                keras.layers.RandomZoom(0.2),
                partial(conv, filters=16, strides=2),
            ],
            "inception": [keras.layers.MaxPooling2D(2), partial(inception, branches=branches)],
            "separable": [partial(separable, filters=96, strides=2), partial(separable, filters=96)],
            "residual": [
                partial(residual, filters=128, strides=2),
                partial(residual, filters=128, stochastic_depth=0.2),
            ],
        },
        head=kc.heads.classification(classes, dropout=0.2),
        name="designed",
    )


def print_geometry(found: kc.analysis.Analysis, stages: tuple[str, ...]) -> None:
    """A line per stage: the shape of its map, its stride, its receptive field and its parameters."""
    parameters = 0
    print(f"{'stage':12}{'map':>14}{'stride':>8}{'sees':>12}{'parameters':>12}")
    for row in found.rows:
        parameters += row.parameters
        if row.name in stages:
            rows, columns = row.receptive_field
            shape, sees = " x ".join(map(str, row.output_shape)), f"{rows.size} x {columns.size}"
            print(f"{row.name:12}{shape:>14}{rows.stride:>8}{sees:>12}{parameters:>12,}")
            parameters = 0
    print(f"{'head':12}{'':34}{parameters:>12,}\n")


def load_sample() -> tuple:
    """(images, labels) for training, (images, labels) for validation, class names; every fifth image validates."""
    preprocessing = kc.Preprocessing((SIZE, SIZE), resize="fit")
    classes = sorted(folder.name for folder in DIRECTORY.iterdir() if folder.is_dir())
    train = ([], [])
    validation = ([], [])
    for label, name in enumerate(classes):
        for index, path in enumerate(sorted((DIRECTORY / name).glob("*.png"))):
            part = validation if index % 5 == 0 else train
            part[0].append(kc.images.prepare(path.read_bytes(), preprocessing))
            part[1].append(label)
    return *[(np.stack(images), np.array(labels)) for images, labels in (train, validation)], classes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20, help="passes over the sample (default: %(default)s)")
    parser.add_argument("--out", default="network.png", help="image file to draw to (default: %(default)s)")
    options = parser.parse_args()

    keras.utils.set_random_seed(0)
    train, validation, classes = load_sample()
    stages = ("stem", "inception", "separable", "residual")
    model = network(len(classes))
    found = kc.analyze(model)
    print_geometry(found, stages)
    found.plot(options.out)

    steps = options.epochs * math.ceil(len(train[1]) / BATCH)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    model.compile(keras.optimizers.AdamW(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*train, batch_size=BATCH, epochs=options.epochs, validation_data=validation, verbose=2)
    accuracy = model.evaluate(*validation, verbose=0)[1]
    chance = np.bincount(validation[1]).max() / len(validation[1])
    print(f"\nValidation accuracy {accuracy:.2f} (always the largest class: {chance:.2f}). Drawing: {options.out}")


if __name__ == "__main__":
    main()
