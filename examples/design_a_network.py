"""Design a network: put it together, look at its geometry, train it on the sample data, draw it.

    python examples/design_a_network.py --epochs 20 --out network.png

Less than a minute on two cores. Inception, separable and residual blocks follow each other, so that each can be
compared with the others in the table that is printed: how many parameters it costs, and how far it sees.
"""

import argparse
from functools import partial

import keras
import matplotlib
import numpy as np

import keras_cnn as kc
from keras_cnn.analysis import receptive_field
from pipelines.sample import DIRECTORY

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SIZE, BATCH = 64, 16
COLOURS = {
    "Conv2D": "#4e79a7",
    "DepthwiseConv2D": "#2b8a86",
    "Concatenate": "#d9740b",
    "Add": "#c9393b",
    "Dense": "#8e5a80",
}


def network(classes: int) -> keras.Model:
    """Four stages, each of which halves the map at its start."""
    # Keras' momentum of 0.99 is for long trainings: after the 200 steps of this one it still remembers the start.
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


def inputs_of(layer) -> list:
    return layer.input if isinstance(layer.input, list) else [layer.input]


def print_geometry(model, stages) -> None:
    parameters = 0
    print(f"{'stage':12}{'map':>14}{'stride':>8}{'sees':>12}{'parameters':>12}")
    for layer in model.layers:
        parameters += layer.count_params()
        if layer.name in stages:
            height, width, channels = layer.output.shape[1:]
            rows, columns = receptive_field(model, output=layer.name)
            shape, sees = f"{height} x {width} x {channels}", f"{rows.size} x {columns.size}"
            print(f"{layer.name:12}{shape:>14}{rows.stride:>8}{sees:>12}{parameters:>12,}")
            parameters = 0
    print(f"{'head':12}{'':34}{parameters:>12,}\n")


def load_sample() -> tuple:
    """Images, labels and class names; every fifth image of a class is for validation."""
    preprocessing = kc.Preprocessing((SIZE, SIZE), resize="fit")
    classes = sorted(folder.name for folder in DIRECTORY.iterdir() if folder.is_dir())
    train, validation = ([], []), ([], [])
    for label, name in enumerate(classes):
        for index, path in enumerate(sorted((DIRECTORY / name).glob("*.png"))):
            part = validation if index % 5 == 0 else train
            part[0].append(kc.images.prepare(path.read_bytes(), preprocessing))
            part[1].append(label)
    return *[(np.stack(images), np.array(labels)) for images, labels in (train, validation)], classes


def draw(model, stages, path) -> None:
    """The graph from left to right: a box for each layer that mixes positions, channels or branches."""
    column, lanes, place, edges = {}, {}, {}, []
    source = {}  # tensor -> the drawn layer that it comes from
    for layer in model.layers:
        inputs = [] if isinstance(layer, keras.layers.InputLayer) else [source[id(t)] for t in inputs_of(layer)]
        kind = type(layer).__name__
        if inputs and kind not in COLOURS and "Pooling" not in kind:
            source[id(layer.output)] = inputs[0]  # normalisation, activation, ...: belongs to the box before
            continue
        source[id(layer.output)] = layer
        column[layer] = max((column[i] + 1 for i in inputs), default=0)
        lanes.setdefault(column[layer], []).append(layer)
        edges += [(i, layer) for i in inputs]
    for x, layers in lanes.items():
        for lane, layer in enumerate(layers):
            place[layer] = (x, (len(layers) - 1) / 2 - lane)
    figure, axes = plt.subplots(figsize=(len(lanes) * 0.9, 4.5), layout="constrained")
    for start, end in edges:
        bend = 0.35 if column[end] - column[start] > 1 else 0
        arrow = {"arrowstyle": "-", "color": "#888888", "connectionstyle": f"arc3,rad={bend}"}
        axes.annotate("", place[end], place[start], arrowprops=arrow, zorder=1)
    for layer, (x, y) in place.items():
        colour = COLOURS.get(type(layer).__name__, "#79706e")
        box = {"boxstyle": "round", "facecolor": colour, "edgecolor": "none"}
        axes.text(x, y, caption(layer), ha="center", va="center", fontsize=7, color="white", bbox=box, zorder=2)
    for name in stages:
        end = source[id(model.get_layer(name).output)]
        shape = " x ".join(map(str, model.get_layer(name).output.shape[1:]))
        axes.axvline(column[end] + 0.5, color="#dddddd", zorder=0)
        axes.text(column[end] + 0.4, 2.6, f"{name}\n{shape}", ha="right", va="top", fontsize=8)
    axes.set(xlim=(-0.6, len(lanes) - 0.4), ylim=(-2.2, 2.7))
    axes.axis("off")
    figure.savefig(path, dpi=150)


def caption(layer) -> str:
    """What is written into a layer's box: its window, filters and stride."""
    kind = type(layer).__name__.removesuffix("2D")
    window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
    if not window:
        return {"InputLayer": "image", "GlobalAveragePooling": "mean"}.get(kind, kind.lower())
    stride = f" /{layer.strides[0]}" if layer.strides[0] > 1 else ""
    what = layer.filters if kind == "Conv" else kind.removesuffix("Conv").removesuffix("Pooling").lower()
    return f"{window[0]}x{window[1]}{stride}\n{what}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20, help="passes over the sample (default: %(default)s)")
    parser.add_argument("--out", default="network.png", help="file of the picture (default: %(default)s)")
    options = parser.parse_args()

    keras.utils.set_random_seed(0)
    train, validation, classes = load_sample()
    stages = ("stem", "inception", "separable", "residual")
    model = network(len(classes))
    print_geometry(model, stages)
    draw(model, stages, options.out)

    steps = options.epochs * -(-len(train[1]) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    model.compile(keras.optimizers.AdamW(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*train, batch_size=BATCH, epochs=options.epochs, validation_data=validation, verbose=2)
    accuracy = model.evaluate(*validation, verbose=0)[1]
    chance = np.bincount(validation[1]).max() / len(validation[1])
    print(f"\nValidation accuracy {accuracy:.2f} (always the largest class: {chance:.2f}). Picture: {options.out}")


if __name__ == "__main__":
    main()
