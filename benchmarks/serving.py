"""Exported networks on a CPU: plain `model.export()`, ours, and OpenVINO on the same weights, in one run.

    python benchmarks/serving.py [--networks EfficientNetLite0,MobileNetV2,ResNet50] [--batches 1,8,32] [--seconds 8] [--json]

All systems are ready in one process and take turns. The times are medians over the turns, and the ratios are medians of the
ratios within a turn. The ratios of processor time are those of the lowest tenth of the turns, which say more on a busy
machine. Images are decoded already, as bytes for ours and as float32 for the others. The weights are random, those of the
batch norms too: initial ones, zeros and ones, would be folded away. OpenVINO (`pip install openvino`) reads the plain export;
without it, its rows are missing.
"""

import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import harness
import keras
import numpy as np
import tensorflow as tf
from random_weights import randomise

import keras_cnn as kc
from keras_cnn.serving import publishing

SIDE = 224
PLAIN = "plain"


def network(name):
    """Images 0..255 -> probabilities, with random weights."""
    if name == "EfficientNetLite0":
        backbone = kc.load_backbone("efficientnet_lite0", weights=None).model
        model = keras.Model(backbone.input, kc.heads.classification(1000)(backbone.output))
    else:
        model = getattr(keras.applications, name)(weights=None)
    return randomise(model)


def systems(model, folder):
    """name -> function of uint8 images that returns probabilities."""
    model.export(folder / PLAIN, verbose=False)
    found = {PLAIN: plain(folder / PLAIN)}
    labels = [str(number) for number in range(model.output_shape[-1])]
    for precision in ("float32", "bfloat16"):
        path = folder / precision
        proof = publishing.write(model, path, labels, kc.Preprocessing(SIDE), precision=precision)
        size, difference = proof.size / 1e6, proof.largest_difference
        print(f"{precision}: {size:.0f} MB, largest difference {difference:.1e}", file=sys.stderr)
        found[f"ours {precision}"] = ours(path)
    for precision, kind in (("float32", "f32"), ("bfloat16", "bf16")):
        run = openvino(folder / PLAIN, kind)
        if run:
            found[f"OpenVINO {precision}"] = run
    return found


def plain(path):
    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["serving_default"]
    (name,), (output,) = serve.structured_input_signature[1], serve.structured_outputs
    return lambda images, _kept=loaded: serve(**{name: tf.constant(images.astype("float32"))})[output].numpy()


def ours(path):
    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["predict_images"]
    return lambda images, _kept=loaded: serve(images=tf.constant(images))["all_probabilities"].numpy()


def openvino(path, kind):
    """OpenVINO with as many threads as TensorFlow has; None where it is not installed."""
    try:
        import openvino
    except ModuleNotFoundError:
        return None
    hints = {"INFERENCE_PRECISION_HINT": kind, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": os.cpu_count()}
    request = openvino.Core().compile_model(openvino.convert_model(path), "CPU", hints).create_infer_request()
    return lambda images: request.infer([images.astype("float32")])[0]


def measure(functions, images, seconds):
    """Elapsed and processor seconds of each system in each turn, an array `(2, turns)`: turns until the time is over."""
    calls = {name: partial(run, images) for name, run in functions.items()}
    harness.time_in_turns(calls, turns=0, warmup=2)
    times, end = {name: [] for name in calls}, time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[PLAIN]) < 5:
        # As many turns as functions: each is the first once.
        for name, measured in harness.time_in_turns(calls, turns=len(calls), warmup=0).items():
            times[name] += measured
    return {name: np.transpose(values) for name, values in times.items()}


def rows(name, batches, seconds):
    """A row of a network for each batch size and system."""
    with tempfile.TemporaryDirectory() as folder:
        functions = systems(network(name), Path(folder))
        for batch in batches:
            images = np.random.default_rng(batch).integers(0, 256, (batch, SIDE, SIDE, 3), "uint8")
            times = measure(functions, images, seconds)
            for system, values in times.items():
                peer = times.get(f"OpenVINO {system.split()[-1]}") if "ours" in system else None
                share, share_by_processor = (None, None) if peer is None else _ratios(values, peer)
                speed, speed_by_processor = _ratios(times[PLAIN], values)
                elapsed = statistics.median(values[0])
                yield {
                    "network": name,
                    "batch": batch,
                    "system": system,
                    "ms": 1000 * elapsed,
                    "images_per_second": batch / elapsed,
                    "times_plain": speed,
                    "by_processor_time": speed_by_processor,
                    "share_of_OpenVINO": share,
                    "share_by_processor_time": share_by_processor,
                }


def _ratios(above, below):
    """The median of the ratios of elapsed times in a turn, and the ratio of the lowest tenths of processor time."""
    low = np.quantile([above[1], below[1]], 0.1, axis=1)
    return statistics.median(harness.paired_ratios(above[0], below[0])), low[0] / low[1]


def main():
    parser = harness.parser(__doc__)
    parser.add_argument("--networks", default="EfficientNetLite0,MobileNetV2,ResNet50", help="(default: %(default)s)")
    parser.add_argument("--batches", default="1,8,32", help="sizes of batches (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=8, help="for each network and batch size (default: %(default)s)"
    )
    options = parser.parse_args()
    batches = [int(batch) for batch in options.batches.split(",")]
    found = [row for name in options.networks.split(",") for row in harness.echo(rows(name, batches, options.seconds))]
    harness.show(found, options.json)
    if not any("OpenVINO" in row["system"] for row in found):
        print("OpenVINO is not installed: pip install openvino to compare with it.", file=sys.stderr)


if __name__ == "__main__":
    main()
