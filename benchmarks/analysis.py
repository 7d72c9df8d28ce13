"""How long `kc.analyze` takes, and whether its MACs and parameters are those of TensorFlow and Keras.

    python benchmarks/analysis.py [NETWORK …] [--turns 5] [--json]
    python benchmarks/analysis.py --sides

For each network of keras.applications: seconds of the first analysis and the median of all (the network is not run), the
growth of the process's memory during them, and half the floating point operations that `tf.profiler` counts for convolutions
and matrix products in the network's graph, which must be the MACs. With --sides: the most memory that the analysis of
ResNet50 takes, for small and large images.
"""

import resource
import statistics
import tracemalloc

import harness
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


def measure(name, turns):
    """The row of a network."""
    model = getattr(keras.applications, name)(weights=None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(turns):
        found, taken = harness.timed(analysis.analyze, model)
        seconds.append(taken.elapsed)
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "network": name,
        "calls": len(found.rows),
        "first_seconds": seconds[0],
        "seconds": statistics.median(seconds),
        "megabytes": growth / 1024,
        "macs": found.macs,
        "profiled_macs": profiled_macs(model),
        "parameters": found.parameters,
        "count_params": model.count_params(),
    }


def memory_by_side():
    """For each side of the image: the most memory that Python allocates in an analysis, and that of the activations."""
    model = keras.applications.ResNet50(weights=None)
    analysis.analyze(model)  # what is made once
    for side in SIDES:
        tracemalloc.start()
        found = analysis.analyze(model, (side, side, 3))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        yield {
            "side": side,
            "peak_megabytes": peak / 1e6,
            "activations_megabytes": found.memory / 1e6,
        }


def main():
    parser = harness.parser(__doc__, turns=5)
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK", help="of keras.applications")
    parser.add_argument("--sides", action="store_true", help="memory for images of several sizes instead")
    options = parser.parse_args()
    rows = memory_by_side() if options.sides else (measure(name, options.turns) for name in options.networks)
    harness.show(harness.echo(rows), options.json)


if __name__ == "__main__":
    main()
