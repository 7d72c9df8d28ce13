"""A step of fine-tuning EfficientNet-Lite0: batch norms frozen, then part of the convolutions, then with less to train.

    python benchmarks/training_step.py [--size 224] [--batch 32] [--turns 7] [--json]

AdamW on random pictures that lie in memory; a step of each way in turns. The first way is what `kc.unfreeze` leaves to train.
"""

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import keras_cnn as kc

CLASSES = 81
# Name -> whether batch norms are folded, whether depthwise kernels are trained, the first stage that is trained.
WAYS = {
    "batch norms frozen": (False, True, None),
    "fold_frozen": (True, True, None),
    "fold_frozen, depthwise kernels frozen": (True, False, None),
    "the same from stage3 on": (True, False, "stage3"),
}


def compiled(size, folded, depthwise, first):
    """A model that is trained that way."""
    model = kc.attach(kc.load_backbone("efficientnet_lite0", (size, size, 3)).model, kc.heads.classification(CLASSES))
    kc.freeze(model)
    kc.unfreeze(model, starting_at=first)
    if not depthwise:
        for layer in model.layers:
            if isinstance(layer, keras.layers.DepthwiseConv2D):
                layer.trainable = False
    model = kc.surgery.fold_frozen(model) if folded else model
    model.compile(keras.optimizers.AdamW(1e-5), "categorical_crossentropy", jit_compile=False)
    model.make_train_function()
    return model


def measure(size, batch, turns):
    """Images a second, a number for each turn, by way."""
    images = tf.constant(np.random.default_rng(0).uniform(0, 255, (batch, size, size, 3)), tf.float32)
    targets = tf.one_hot(tf.range(batch) % CLASSES, CLASSES)
    models = {name: compiled(size, *way) for name, way in WAYS.items()}
    rates = {name: [] for name in models}
    for turn in range(turns + 2):
        for name, model in models.items():
            start = time.perf_counter()
            model.train_function(iter([(images, targets)]))
            if turn > 1:  # the first ones trace, and make room
                rates[name].append(batch / (time.perf_counter() - start))
    return rates


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=224, help="pixels (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="images a step (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=7, help="steps of each (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    rates = measure(options.size, options.batch, options.turns)
    first = next(iter(rates.values()))
    found = {
        name: {
            "images/s": statistics.median(values),
            "ratio": statistics.median(one / other for one, other in zip(values, first, strict=True)),
        }
        for name, values in rates.items()
    }
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{'trained with':40}{'images/s':>10}{'ratio':>8}")
    for name, row in found.items():
        print(f"{name:40}{row['images/s']:10.1f}{row['ratio']:8.2f}")


if __name__ == "__main__":
    main()
