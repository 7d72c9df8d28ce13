"""How long `kc.analyze` takes, and whether its MACs and parameters are those of TensorFlow and Keras.

    python benchmarks/analysis.py [NETWORK …] [--json]
    python benchmarks/analysis.py --sides

For each network of keras.applications: seconds of one analysis (the median of five, the network is not run), the growth
of the process's memory during it, and half the floating point operations that `tf.profiler` counts for convolutions and
matrix products in the network's graph, which must be the MACs. With --sides: the most memory that the analysis of ResNet50
takes, for small and large images.
"""

import argparse
import json
import os
import resource
import statistics
import time
import tracemalloc

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from keras_cnn import analysis

NETWORKS = (
    "VGG16",
    "ResNet50",
    "ResNet152",
    "InceptionV3",
    "Xception",
    "MobileNetV2",
    "EfficientNetB0",
    "EfficientNetB7",
)
SIDES = (64, 224, 1024, 4096, 16384)
PRODUCTS = [".*Conv2D.*", ".*DepthwiseConv2dNative.*", ".*MatMul.*"]


def profiled_macs(model):
    """Half of what `tf.profiler` counts for kernels and matrix products, for one image."""
    spec = tf.TensorSpec((1, *model.input_shape[1:]), "float32")
    graph = tf.function(lambda x: model(x, training=False)).get_concrete_function(spec).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder(tf.compat.v1.profiler.ProfileOptionBuilder.float_operation())
    options = options.with_empty_output().order_by("float_ops").with_accounted_types(PRODUCTS).build()
    return tf.compat.v1.profiler.profile(graph, options=options).total_float_ops // 2


def measured(name):
    model = getattr(keras.applications, name)(weights=None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        found = analysis.analyze(model)
        seconds.append(time.perf_counter() - start)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "network": name,
        "calls": len(found.rows),
        "first_seconds": round(seconds[0], 3),
        "seconds": round(statistics.median(seconds), 3),
        "megabytes": round(grown / 1024, 1),
        "macs": found.macs,
        "profiled_macs": profiled_macs(model),
        "parameters": found.parameters,
        "count_params": model.count_params(),
    }


def memory_by_side():
    """For each side of the image: the peak of what Python allocates in an analysis, and what the activations would take."""
    model = keras.applications.ResNet50(weights=None)
    analysis.analyze(model)  # what is made once
    for side in SIDES:
        tracemalloc.start()
        found = analysis.analyze(model, (side, side, 3))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        yield {
            "side": side,
            "peak_megabytes": round(peak / 1e6, 1),
            "activations_megabytes": round(found.memory / 1e6, 1),
        }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sides", action="store_true", help="memory for images of several sizes instead")
    options = parser.parse_args()
    for result in memory_by_side() if options.sides else map(measured, options.networks):
        if options.json:
            print(json.dumps(result), flush=True)
        else:
            print("  ".join(f"{key} {value}" for key, value in result.items()), flush=True)
