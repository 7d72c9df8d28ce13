"""Training the last layers of a frozen network: on cached features, and with the earlier layers computed at each step.

    python benchmarks/cached.py [--images 256] [--turns 5] [--json]

Both train the same layers of EfficientNet-Lite0 with AdamW on random images, in batches of 32. They take turns of one epoch.
All columns are images per second, except the ratio; the features are computed once, before the first turn.
"""

import itertools
import statistics
import tempfile

import harness
import keras
import numpy as np

import keras_cnn as kc
from keras_cnn import surgery
from pipelines.datasets.array_cache import ArrayCache
from pipelines.datasets.feature_batches import FeatureBatches, to_one_hot
from pipelines.datasets.image_batches import ImageBatches
from pipelines.training import feature_extractor

CLASSES, BATCH, SIZE = 10, 32, (224, 224)
# Trained part -> the last layer before it, and its first layer.
PARTS = {"last stage (5 blocks)": ("stage4", "stage5"), "last two blocks": ("block14_add", "block15_expand_conv")}


def compiled(model):
    model.compile(keras.optimizers.AdamW(1e-4), "categorical_crossentropy", jit_compile=False)
    return model


def classifier(backbone, first):
    """A classifier that is trained from the layer `first` to its end."""
    model = kc.attach(backbone.model, kc.heads.classification(CLASSES))
    kc.freeze(model)
    kc.unfreeze(model, starting_at=first)
    return model


def compute_features(frozen_part, backbone, batches, folder):
    """What the frozen layers make of all images."""
    extractor = feature_extractor.FeatureExtractor(frozen_part, backbone, ArrayCache(folder), 10 * batches.examples)
    return extractor.features(batches, "random", lambda count: None)


def epochs(model, batches):
    """A function that trains one epoch more at each call."""
    numbers = itertools.count()
    return lambda: model.fit(batches(next(numbers), 0), verbose=0, shuffle=False)


def measure(part, count, turns):
    """Images per second: with everything computed at each step, on cached features, and of computing these once."""
    random, backbone, (boundary, first) = np.random.default_rng(0), kc.load_backbone("efficientnet_lite0"), PARTS[part]
    images, labels = random.integers(0, 256, (count, *SIZE, 3), "uint8"), random.integers(0, CLASSES, count)
    whole = compiled(classifier(backbone, first))
    frozen_part, rest = surgery.split(classifier(backbone, first), boundary)
    plain = ImageBatches(images, labels, SIZE, BATCH, classes=CLASSES)
    in_order = ImageBatches(images, labels, SIZE, BATCH, classes=CLASSES, shuffle=False)
    with tempfile.TemporaryDirectory() as folder:
        features, once = harness.timed(compute_features, frozen_part, backbone, in_order, folder)
        cached = FeatureBatches([features], to_one_hot(labels, CLASSES), BATCH, seed=0)
        functions = {"recomputed": epochs(whole, plain), "cached": epochs(compiled(rest), cached)}
        times = harness.time_in_turns(functions, turns)  # the first epoch compiles
    rates = {name: [count / seconds.elapsed for seconds in values] for name, values in times.items()}
    return {
        "trained": part,
        **{name: statistics.median(values) for name, values in rates.items()},
        "ratio": statistics.median(harness.paired_ratios(rates["cached"], rates["recomputed"])),
        "computing_features": count / once.elapsed,
    }


def main():
    parser = harness.parser(__doc__, turns=5)
    parser.add_argument("--images", type=int, default=256, help="images per epoch (default: %(default)s)")
    options = parser.parse_args()
    harness.show([measure(part, options.images, options.turns) for part in PARTS], options.json)


if __name__ == "__main__":
    main()
