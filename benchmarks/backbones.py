"""What `load_backbone` and a head add to the time that Keras needs to build the same network.

    python benchmarks/backbones.py [NETWORK … | all] [--turns 7] [--json]

In each turn a network is loaded and gets a head, and the time that Keras' own function takes meanwhile is taken off: what is
left is ours. So both are measured in one run, and whatever else the machine does falls on both; the first turn is not
counted. Beside the seconds that pass stand those that the process computes, which other programs on the machine do not
stretch. As in `timeit`, the garbage collector waits until a turn is over: it runs for all objects of the process when their
number says so, in Keras' part or in ours. Random weights with `keras:`. The embedded network is loaded with its own weights;
there the making of its layers counts as Keras' part.
"""

import argparse
import gc
import json
import os
import statistics
import time
from contextlib import contextmanager

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from keras_cnn import attach, heads, load_backbone
from keras_cnn.backbones import applications, efficientnet_lite

NETWORKS = ("efficientnet_lite0", "keras:ResNet50", "keras:MobileNetV2", "keras:EfficientNetB0")
CLOCKS = {"seconds": time.perf_counter, "cpu_seconds": time.process_time}


def with_head(handle):
    weights = None if handle.startswith("keras:") else "default"
    return attach(load_backbone(handle, weights=weights).model, heads.classification(10))


def seconds(function, *args, **kwargs):
    """What it gives, and what it takes by each clock."""
    start = [clock() for clock in CLOCKS.values()]
    result = function(*args, **kwargs)
    return result, [clock() - begun for clock, begun in zip(CLOCKS.values(), start, strict=True)]


@contextmanager
def observed(owner, name, taken):
    """Within it, each call of a function adds what it takes to the list `taken`."""
    original = getattr(owner, name)

    def call(*args, **kwargs):
        result, found = seconds(original, *args, **kwargs)
        taken.append(found)
        return result

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, original)


def turn(handle):
    """Keras' part and ours, by each clock."""
    owner, name = (applications, "_build") if handle.startswith("keras:") else (efficientnet_lite, "_body")
    inner = []
    gc.disable()
    with observed(owner, name, inner):
        _, whole = seconds(with_head, handle)
    gc.enable()
    keras.backend.clear_session(free_memory=True)  # collects
    return [(theirs, all_ - theirs) for all_, theirs in zip(whole, inner[0], strict=True)]


def measured(handle, turns):
    found = [turn(handle) for _ in range(turns + 1)][1:]
    result = {"network": handle}
    for name, pairs in zip(CLOCKS, zip(*found, strict=True), strict=True):
        theirs, added = zip(*pairs, strict=True)
        low, middle, high = statistics.quantiles(added, n=4)
        result |= {f"keras_{name}": round(statistics.median(theirs), 3), f"added_{name}": round(middle, 3)}
        result |= {f"added_{name}_quartiles": [round(low, 3), round(high, 3)]}
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    every = [*efficientnet_lite.VARIANTS][:1] + [f"keras:{name}" for name in applications.names()]
    for network in every if options.networks == ["all"] else options.networks:
        result = measured(network, options.turns)
        print(json.dumps(result) if options.json else "  ".join(f"{k} {v}" for k, v in result.items()), flush=True)
