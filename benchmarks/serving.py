"""Exported networks on a CPU: plain `model.export()`, ours, and OpenVINO on the same weights, in one run.

    python benchmarks/serving.py [--networks EfficientNetLite0,MobileNetV2,ResNet50] [--batches 1,8,32] [--seconds 8] [--json]

All ways lie ready in one process and take turns, so that whatever else the machine does falls on all of them; what is
printed are medians over the turns, and the medians of the ratios within a turn. Beside these stand the ratios of processor
time, of the lowest tenth of the turns: on a busy machine they tell more. Images are decoded already, as bytes for
ours and as float32 for the others. The weights are random, those of the batch norms too: fresh ones, zeros and ones,
would be folded away. OpenVINO (`pip install openvino`) is left out where it is missing; it reads the plain export.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

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


def ways(model, folder):
    """name -> function of uint8 images that gives probabilities."""
    model.export(folder / PLAIN, verbose=False)
    found = {PLAIN: plain(folder / PLAIN)}
    labels = [str(number) for number in range(model.output_shape[-1])]
    for precision in ("float32", "bfloat16"):
        path = folder / precision
        proof = publishing.write(model, path, labels, kc.Preprocessing(SIDE), precision=precision)
        print(
            f"{precision}: {proof.size / 1e6:.0f} MB, largest difference {proof.largest_difference:.1e}",
            file=sys.stderr,
        )
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


def measure(runs, images, seconds):
    """Seconds by the clock and of processor time of each way in each turn."""
    for run in runs.values():
        run(images)
        run(images)
    times, end = {name: [] for name in runs}, time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[PLAIN]) < 5:
        for name, run in runs.items():
            start = np.array([time.perf_counter(), time.process_time()])
            run(images)
            times[name].append(np.array([time.perf_counter(), time.process_time()]) - start)
    return {name: np.transpose(found) for name, found in times.items()}


def rows(name, batches, seconds):
    """The figures of a network: one dict a batch size and way."""
    with tempfile.TemporaryDirectory() as folder:
        runs = ways(network(name), Path(folder))
        for batch in batches:
            images = np.random.default_rng(batch).integers(0, 256, (batch, SIDE, SIDE, 3), "uint8")
            times = measure(runs, images, seconds)
            for way, found in times.items():
                peer = times.get(f"OpenVINO {way.split()[-1]}")
                yield {
                    "network": name,
                    "batch": batch,
                    "way": way,
                    "ms": 1000 * statistics.median(found[0]),
                    "images_per_s": batch / statistics.median(found[0]),
                    "times_plain": _ratio(times[PLAIN], found),
                    "over_openvino": None if peer is None else _ratio(found, peer),
                }


def _ratio(above, below):
    """The median of the ratios by the clock, and the ratio of the lowest tenths of processor time."""
    low = np.quantile([above[1], below[1]], 0.1, axis=1)
    return {"clock": float(np.median(above[0] / below[0])), "processor": float(low[0] / low[1])}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default="EfficientNetLite0,MobileNetV2,ResNet50", help="(default: %(default)s)")
    parser.add_argument("--batches", default="1,8,32", help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=8, help="for each network and batch (default: 8)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    found = []
    for name in options.networks.split(","):
        for row in rows(name, [int(batch) for batch in options.batches.split(",")], options.seconds):
            found.append(row)
            if not options.json:
                plain, peer = row["times_plain"], row["over_openvino"]
                print(
                    f"{row['network']:18} batch {row['batch']:3}  {row['way']:18}{row['ms']:9.1f} ms"
                    f"{row['images_per_s']:8.1f} images/s  {_both(plain)} times plain"
                    + (f"  {_both(peer)} of OpenVINO's time" if peer and "ours" in row["way"] else ""),
                    flush=True,
                )
    if options.json:
        print(json.dumps(found, indent=1))
    elif not any("OpenVINO" in row["way"] for row in found):
        print("OpenVINO is not installed: pip install openvino to compare with it.", file=sys.stderr)


def _both(ratio):
    return f"{ratio['clock']:5.2f} (processor {ratio['processor']:.2f})"


if __name__ == "__main__":
    main()
