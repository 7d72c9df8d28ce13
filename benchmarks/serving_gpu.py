"""An exported ResNet50 on a GPU: plain `model.export()`, our `serving_xla`, and `jax.jit` on the same Keras model, in one run.

    python benchmarks/serving_gpu.py [--seconds 340] [--only TEXT,...] [--quick] [--json] [--jax NAME=VALUE ...]

Each system runs in a process of its own, one after another, on images that are on the device already. The weights are
random, those of the batch norms too: initial ones, zeros and ones, would be folded away. "latency" is the time from the call
until the probabilities are in host memory, "pipelined" the time per call when calls follow each other without waiting for
the probabilities; `serving_xla` returns labels too, for which it always waits. The values are medians. TensorFlow's reloaded
signatures are called by keyword (by position, they first format the whole input into an error text).

The processes of JAX have no LD_LIBRARY_PATH and XLA_FLAGS; `--jax NAME=VALUE` sets a variable for them (such as PYTHONPATH
where JAX needs other libraries than TensorFlow), and `--jax NAME=` removes one. `--quick` runs a small network with few
calls, with or without a GPU, to try the script.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness

FULL = {"network": "ResNet50", "side": 224, "batches": (1, 32, 256), "calls": {1: 200, 32: 60, 256: 20}}
QUICK = {"network": "small", "side": 32, "batches": (1, 4), "calls": {1: 10, 4: 5}}
# name -> (function, precision, variables for its environment); those of ALONE are measured at batch 1 only.
SYSTEMS = {
    "plain model.export(), float32": ("plain", "float32", {}),
    "serving_xla, bfloat16": ("ours", "bfloat16", {}),
    "jax.jit, mixed_bfloat16": ("jax", "bfloat16", {}),
    "serving_xla, float32": ("ours", "float32", {}),
    "jax.jit, float32": ("jax", "float32", {}),
    "compiled part alone, bfloat16": ("core", "bfloat16", {}),
    "the same, 1x1 convolutions as products": ("products", "bfloat16", {}),
    "the same, XLA graphs of 1": ("products", "bfloat16", {"XLA_FLAGS": "--xla_gpu_graph_min_graph_size=1"}),
    "compiled part alone, XLA runtime fusion": ("core", "bfloat16", {"XLA_FLAGS": "--xla_gpu_use_runtime_fusion=true"}),
    "plain model.export(), mixed_bfloat16": ("plain", "bfloat16", {}),
}
ALONE = ("core", "products")
PLAIN, OURS, JAX = "plain model.export(), float32", "serving_xla, bfloat16", "jax.jit, mixed_bfloat16"


def network(case, precision):
    """The Keras model with random weights, computing in `precision`."""
    import keras
    from random_weights import randomise

    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    if case["network"] == "small":
        model = keras.applications.MobileNetV2((case["side"], case["side"], 3), alpha=0.35, weights=None, classes=10)
    else:
        model = getattr(keras.applications, case["network"])(weights=None)
    return randomise(model)


def pixels(case, batch):
    import numpy as np

    return np.random.default_rng(batch).integers(0, 256, (batch, case["side"], case["side"], 3), "uint8")


def plain(case, precision, folder):
    """The system that `model.export()` writes."""
    import tensorflow as tf

    path = folder / f"plain_{precision}"
    network(case, precision).export(path, verbose=False)
    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["serving_default"]
    (name,), (output,) = serve.structured_input_signature[1], serve.structured_outputs
    return _tensorflow(lambda x: serve(**{name: x})[output], "float32"), loaded


def ours(case, precision, folder):
    """The system that `keras_cnn` writes: its signature for GPUs."""
    import tensorflow as tf

    import keras_cnn as kc
    from keras_cnn.serving import publishing

    path = folder / f"ours_{precision}"
    if not path.exists():
        model = network(case, "float32")
        labels = [f"class {number}" for number in range(model.output_shape[-1])]
        start = time.perf_counter()
        publishing.write(model, path, labels, kc.Preprocessing(case["side"]), precision=precision)
        print(f"written and verified in {time.perf_counter() - start:.1f} s", file=sys.stderr)
    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["serving_xla"]
    return _tensorflow(lambda x: serve(images=x)["all_probabilities"], "uint8"), loaded


def core(case, precision, folder):
    """The network compiled by XLA in this process, without the rest of the signature and without saving."""
    import tensorflow as tf

    from keras_cnn.serving.network import Network

    served = Network(network(case, "float32"), precision)
    run = tf.function(lambda images: served.run(tf.cast(images, tf.float32))["probabilities"], jit_compile=True)
    return _tensorflow(run, "uint8"), served


def products(case, precision, folder):
    """The same with 1x1 convolutions as matrix products, which XLA can put into CUDA graphs."""
    from keras_cnn.serving import graph_rewriting

    rewrite = graph_rewriting.rewrite

    def with_products(*arguments):
        graph = rewrite(*arguments)
        values = {node.name: node for node in graph.node if node.op == "Const"}
        for node in graph.node:
            kernel = values.get(node.input[1]) if node.op == "Conv2D" else None
            sizes = [side.size for side in kernel.attr["value"].tensor.tensor_shape.dim] if kernel else []
            if sizes[:2] == [1, 1] and set(node.attr["strides"].list.i) == {1}:
                del kernel.attr["value"].tensor.tensor_shape.dim[:2]
                kind = node.attr["T"].type
                node.op = "Einsum"
                node.attr.clear()
                node.attr["T"].type = kind
                node.attr["N"].i = 2
                node.attr["equation"].s = b"bhwc,cd->bhwd"
        return graph

    graph_rewriting.rewrite = with_products
    return core(case, precision, folder)


def _tensorflow(call, dtype):
    import tensorflow as tf

    device = "GPU:0" if tf.config.list_physical_devices("GPU") else "CPU:0"

    def place(images):
        with tf.device(device):
            return tf.identity(tf.constant(images.astype(dtype)))

    return call, place, lambda probabilities: probabilities.numpy()


def jax(case, precision, folder):
    """`jax.jit` on the same Keras model."""
    import jax
    import numpy as np

    model = network(case, precision)
    weights = [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables]
    run = jax.jit(lambda weights, images: model.stateless_call(*weights, images, training=False)[0])

    def place(images):
        return jax.device_put(images.astype("float32"))

    return (lambda images: run(weights, images), place, np.asarray), model


def measure(call, place, to_host, images, calls):
    """Milliseconds per call, to the host and pipelined, and the seconds of the first call."""
    images, in_window = place(images), calls // 4 + 1

    def window():
        for _ in range(in_window):
            probabilities = call(images)
        to_host(probabilities)

    def milliseconds(function, turns, warmup):
        times = harness.time_in_turns({"all": function}, turns, warmup)["all"]
        return 1000 * statistics.median(seconds.elapsed for seconds in times)

    _, first = harness.timed(lambda: to_host(call(images)))
    latency = milliseconds(lambda: to_host(call(images)), calls, warmup=5)
    pipelined = milliseconds(window, turns=5, warmup=0) / in_window
    return {"latency_ms": latency, "pipelined_ms": pipelined, "first_call_s": first.elapsed}


def run_system(name, case, folder):
    """Measure one system in this process, and print a line of JSON for each batch size."""
    function, precision, _ = SYSTEMS[name]
    (call, place, to_host), _model = globals()[function](case, precision, folder)  # calls need the model in memory
    for batch in (1,) if function in ALONE else case["batches"]:
        found = measure(call, place, to_host, pixels(case, batch), case["calls"][batch])
        row = {"system": name, "batch": batch, **found, "images_per_second": 1000 * batch / found["pipelined_ms"]}
        print("RESULT " + json.dumps(row), flush=True)


def run_all(case, options):
    """All rows, until the time is over."""
    end, results = time.monotonic() + options.seconds, []
    with tempfile.TemporaryDirectory() as folder:
        for name, (function, _, extra) in SYSTEMS.items():
            if not any(text in name for text in options.only.split(",")):
                continue
            left = end - time.monotonic()
            if left < 20:
                print(f"{name}: excluded, the time is over", file=sys.stderr)
                continue
            environment = dict(os.environ, KERAS_BACKEND="jax" if function == "jax" else "tensorflow")
            if function == "jax":
                for variable in ("LD_LIBRARY_PATH", "XLA_FLAGS"):  # these are set for TensorFlow
                    environment.pop(variable, None)
                for assignment in options.jax:
                    variable, _, value = assignment.partition("=")
                    environment[variable] = value
                environment = {variable: value for variable, value in environment.items() if value}
            for variable, value in extra.items():
                environment[variable] = f"{environment.get(variable, '')} {value}".strip()
            command = [sys.executable, __file__, "--system", name, "--folder", folder, *["--quick"] * options.quick]
            start = time.monotonic()
            try:
                process = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=left)
                output, failed = process.stdout, process.returncode
                log = process.stderr
            except subprocess.TimeoutExpired as error:
                output, failed, log = (error.stdout or b"").decode(), True, "the time is over"
            lines = [line.removeprefix("RESULT ") for line in output.splitlines() if line.startswith("RESULT ")]
            results += map(json.loads, lines)
            notes = [line for line in log.splitlines() if failed or line.startswith("written and verified")][-3:]
            print(f"{name}: {time.monotonic() - start:.0f} s", *notes, sep="\n    ", file=sys.stderr)
    return results


def print_goals(results):
    """The ratios to the plain export and to JAX, and their goals."""
    found = {(row["system"], row["batch"]): row for row in results}
    largest, smallest = max(row["batch"] for row in results), min(row["batch"] for row in results)
    if {(PLAIN, largest), (OURS, largest)} <= found.keys():
        ratio = found[OURS, largest]["images_per_second"] / found[PLAIN, largest]["images_per_second"]
        print(f"{OURS} / {PLAIN}, images per second at batch {largest}: {ratio:.2f} (goal: 5)")
    if {(JAX, smallest), (OURS, smallest)} <= found.keys():
        ratio = found[OURS, smallest]["latency_ms"] / found[JAX, smallest]["latency_ms"]
        print(f"{OURS} / {JAX}, latency at batch {smallest}: {ratio:.2f} (goal: at most 1)")


def has_gpu():
    """Whether TensorFlow sees a GPU. Another process looks, because TensorFlow may then take the memory of the GPU."""
    check = "import sys, tensorflow as tf; sys.exit(not tf.config.list_physical_devices('GPU'))"
    return subprocess.run([sys.executable, "-c", check], capture_output=True, check=False).returncode == 0


def main():
    parser = harness.parser(__doc__)
    parser.add_argument(
        "--seconds", type=float, default=340, help="start no system after this time (default: %(default)s)"
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT,...", help="only systems with one of these texts in their name"
    )
    parser.add_argument("--quick", action="store_true", help="a small network and few calls, with or without a GPU")
    parser.add_argument("--jax", action="append", default=[], metavar="NAME=VALUE", help="a variable for JAX")
    parser.add_argument("--system", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    case = QUICK if options.quick else FULL
    if options.system:
        run_system(options.system, case, options.folder)
        return 0
    if not options.quick and not has_gpu():
        print(
            "serving_gpu.py: TensorFlow sees no GPU, and this benchmark is for GPUs. "
            "Run it on a machine with a GPU, or try the script with --quick.",
            file=sys.stderr,
        )
        return 2
    results = run_all(case, options)
    if not results:
        return 1
    harness.show(results, options.json)
    if not options.json:
        print_goals(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
