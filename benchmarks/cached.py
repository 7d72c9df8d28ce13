"""Training the last layers of a frozen network: on kept activations, and with the layers before them computed at each step.

    python benchmarks/cached.py [--images 256] [--turns 5] [--json]

Both train the same layers of EfficientNet-Lite0 with AdamW on random pictures, in batches of 32, one epoch a turn, in turns.
The activations are computed once before; how long that takes is told beside.
"""

import argparse
import json
import os
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_cnn as kc
from keras_cnn import surgery
from pipelines.datasets.array_cache import ArrayCache
from pipelines.datasets.feature_batches import FeatureBatches, to_one_hot
from pipelines.datasets.image_batches import ImageBatches
from pipelines.training import feature_extractor

CLASSES, BATCH, SIZE = 10, 32, (224, 224)
# What is trained -> the last layer before it, and the first of its own.
PARTS = {"last stage (5 blocks)": ("stage4", "stage5"), "last two blocks": ("block14_add", "block15_expand_conv")}


def compiled(model):
    model.compile(keras.optimizers.AdamW(1e-4), "categorical_crossentropy", jit_compile=False)
    return model


def classifier(backbone, first):
    """One of which only what begins with a layer is trained."""
    model = kc.attach(backbone.model, kc.heads.classification(CLASSES))
    kc.freeze(model)
    kc.unfreeze(model, starting_at=first)
    return model


def measure(part, images, turns):
    """Images a second: of a step with everything computed, of one on kept activations, and of keeping them once."""
    random, backbone, (boundary, first) = np.random.default_rng(0), kc.load_backbone("efficientnet_lite0"), PARTS[part]
    pictures, labels = random.integers(0, 256, (images, *SIZE, 3), "uint8"), random.integers(0, CLASSES, images)
    whole = compiled(classifier(backbone, first))
    front, rest = surgery.split(classifier(backbone, first), boundary)
    plain = ImageBatches(pictures, labels, SIZE, BATCH, classes=CLASSES)
    in_order = ImageBatches(pictures, labels, SIZE, BATCH, classes=CLASSES, shuffle=False)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        kept = feature_extractor.FeatureExtractor(front, backbone, ArrayCache(folder), 10 * images)
        activations = kept.features(in_order, "random", lambda count: None)
        once = images / (time.perf_counter() - start)
        cached = FeatureBatches([activations], to_one_hot(labels, CLASSES), BATCH, seed=0)
        ways = {"recomputed": (whole, plain), "kept": (compiled(rest), cached)}
        found = {name: [] for name in ways}
        for turn in range(turns + 1):
            for name, (model, batches) in ways.items():
                start = time.perf_counter()
                model.fit(batches(turn, 0), verbose=0, shuffle=False)
                found[name].append(images / (time.perf_counter() - start))
    rates = {name: values[1:] for name, values in found.items()}  # the first epoch compiles
    ratio = statistics.median(one / other for one, other in zip(rates["kept"], rates["recomputed"], strict=True))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {**medians, "once": once, "ratio": ratio}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256, help="in an epoch (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="epochs of each (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    found = {part: measure(part, options.images, options.turns) for part in PARTS}
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{'images/s, trained':24}{'recomputed':>12}{'kept':>8}{'ratio':>8}{'to keep':>10}")
    for part, row in found.items():
        print(f"{part:24}{row['recomputed']:12.1f}{row['kept']:8.1f}{row['ratio']:8.1f}{row['once']:10.1f}")


if __name__ == "__main__":
    main()
