"""TensorFlow with and without oneDNN on this processor: features of EfficientNet-Lite0, and a step of fine-tuning.

    python benchmarks/onednn.py [--size 224] [--batch 32] [--steps 6] [--turns 3] [--here] [--json]

TensorFlow switches oneDNN on by default only on newer processors, and reads `TF_ENABLE_ONEDNN_OPTS` when it is loaded, so each
measurement is a process of its own. A turn is one process without and one with oneDNN; `--here` measures in this process.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial

import harness

WORK = ("features", "training step")


def measure_here(size, batch, steps):
    """Images per second of both kinds of work, in this process."""
    import numpy as np
    import tensorflow as tf
    import training_step

    import keras_cnn as kc
    from pipelines.training.feature_extractor import FOLDED_FROM, inference

    images = tf.constant(np.random.default_rng(0).uniform(0, 255, (batch, size, size, 3)), tf.float32)
    targets = tf.one_hot(tf.range(batch) % training_step.CLASSES, training_step.CLASSES)
    network = kc.load_backbone("efficientnet_lite0", (size, size, 3)).model
    model = training_step.compiled(size, folded=True, depthwise=False, first=None)
    run = partial(inference(network, FOLDED_FROM), images)
    train = partial(training_step.train_step, model, images, targets)
    return {name: images_per_second(each, batch, steps) for name, each in zip(WORK, (run, train), strict=True)}


def images_per_second(step, batch, steps):
    """After two steps, which trace and allocate memory."""
    step(), step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return steps * batch / (time.perf_counter() - start)


def in_a_process(switch, options):
    """What `measure_here` gives where `TF_ENABLE_ONEDNN_OPTS` is `switch`."""
    arguments = [f"--{name}={getattr(options, name)}" for name in ("size", "batch", "steps")]
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": switch}
    process = subprocess.run(
        [sys.executable, __file__, "--here", *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(process.stdout)


def main():
    parser = harness.parser(__doc__, turns=3)
    parser.add_argument("--size", type=int, default=224, help="pixels (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="images per step (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=6, help="per measurement (default: %(default)s)")
    parser.add_argument("--here", action="store_true", help="measure in this process, and print JSON")
    options = parser.parse_args()
    if options.here:
        return print(json.dumps(measure_here(options.size, options.batch, options.steps)))
    switches = {name: partial(in_a_process, switch, options) for name, switch in (("without", "0"), ("with", "1"))}
    found = harness.take_turns(switches, options.turns, warmup=0)
    rows = []
    for work in WORK:
        rates = {name: [each[work] for each in values] for name, values in found.items()}
        ratio = statistics.median(harness.paired_ratios(rates["with"], rates["without"]))
        medians = {f"{name}, images/s": statistics.median(values) for name, values in rates.items()}
        rows.append({"work": work, **medians, "ratio": ratio})
    return harness.show(rows, options.json)


if __name__ == "__main__":
    main()
