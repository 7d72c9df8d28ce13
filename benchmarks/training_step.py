"""A step of fine-tuning EfficientNet-Lite0: batch norms frozen, batch norms folded, then with fewer trained layers.

    python benchmarks/training_step.py [--size 224] [--batch 32] [--turns 7] [--json]

AdamW on random images in memory; each turn is a step of each variant. The first variant trains what `kc.unfreeze` unfreezes.
"""

import statistics
from functools import partial

import harness
import keras
import numpy as np
import tensorflow as tf

import keras_cnn as kc

CLASSES = 81
# Name -> whether batch norms are folded, whether depthwise kernels are trained, the first stage that is trained.
VARIANTS = {
    "batch norms frozen": (False, True, None),
    "fold_frozen": (True, True, None),
    "fold_frozen, depthwise kernels frozen": (True, False, None),
    "the same from stage3 on": (True, False, "stage3"),
}


def compiled(size, folded, depthwise, first):
    """The model of a variant."""
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
    """A row for each variant; the ratio is that of the rates in a turn, to the first variant."""
    images = tf.constant(np.random.default_rng(0).uniform(0, 255, (batch, size, size, 3)), tf.float32)
    targets = tf.one_hot(tf.range(batch) % CLASSES, CLASSES)
    models = {name: compiled(size, *variant) for name, variant in VARIANTS.items()}
    steps = {name: partial(train_step, model, images, targets) for name, model in models.items()}
    times = harness.time_in_turns(steps, turns, warmup=2)  # the first steps trace, and allocate memory
    rates = {name: [batch / seconds.elapsed for seconds in values] for name, values in times.items()}
    first = next(iter(rates.values()))
    for name, values in rates.items():
        ratio = statistics.median(harness.paired_ratios(values, first))
        yield {"trained with": name, "images_per_second": statistics.median(values), "ratio": ratio}


def train_step(model, images, targets):
    model.train_function(iter([(images, targets)]))


def main():
    parser = harness.parser(__doc__, turns=7)
    parser.add_argument("--size", type=int, default=224, help="pixels (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="images per step (default: %(default)s)")
    options = parser.parse_args()
    harness.show(measure(options.size, options.batch, options.turns), options.json)


if __name__ == "__main__":
    main()
