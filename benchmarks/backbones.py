"""What `load_backbone` and a head add to the time that Keras needs to build the same network, in one run.

    python benchmarks/backbones.py [NETWORK …] [--turns 7] [--json]

Both builds of a pair take turns, so that whatever else the machine does falls on both; the first turn is not counted.
Beside the seconds that pass stand those that the process computes, which other programs on the machine do not stretch.
Random weights with `keras:`. The embedded network is loaded with its own, and compared with its layers alone.
"""

import argparse
import gc
import json
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from keras_cnn import heads, load_backbone
from keras_cnn.backbones import efficientnet_lite
from keras_cnn.builder import attach

NETWORKS = ("efficientnet_lite0", "keras:ResNet50", "keras:MobileNetV2", "keras:EfficientNetB0")
CLASSES = 10


def by_keras(handle):
    """The network without its head, as Keras builds it."""
    name = handle.removeprefix("keras:")
    if name == handle:
        return efficientnet_lite.load(handle, weights=None).model
    return getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(224, 224, 3))


def with_head(handle):
    weights = None if handle.startswith("keras:") else "default"
    return attach(load_backbone(handle, weights=weights).model, heads.classification(CLASSES))


def seconds(build, handle):
    """Of the clock, and of computing."""
    gc.collect()
    start = time.perf_counter(), time.process_time()
    build(handle)
    return time.perf_counter() - start[0], time.process_time() - start[1]


def measured(handle, turns):
    pairs = [(seconds(by_keras, handle), seconds(with_head, handle)) for _ in range(turns + 1)][1:]
    result = {"network": handle}
    for place, clock in enumerate(("seconds", "cpu_seconds")):
        theirs, ours = ([one[place] for one in side] for side in zip(*pairs, strict=True))
        low, middle, high = statistics.quantiles([b - a for a, b in zip(theirs, ours, strict=True)], n=4)
        result |= {f"keras_{clock}": round(statistics.median(theirs), 3), clock: round(statistics.median(ours), 3)}
        result |= {f"added_{clock}": round(middle, 3), f"added_{clock}_quartiles": [round(low, 3), round(high, 3)]}
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for network in options.networks:
        result = measured(network, options.turns)
        print(json.dumps(result) if options.json else "  ".join(f"{k} {v}" for k, v in result.items()), flush=True)
