"""The seconds that `fit_linear_probe` takes, the search for the L2 penalty included.

    python benchmarks/head.py [--examples 2640] [--features 1280] [--classes 81] [--turns 5] [--large] [--json]

The features are positive numbers around one centre per class, as a pooled network gives them. `--large` means 20,000 examples
of 200 classes, which take minutes.
"""

import argparse
import json
import statistics
import time

import numpy as np

from keras_cnn.training import fit_linear_probe

VALIDATION = 300  # examples


def clusters(examples, features, classes):
    """Features and class indices."""
    random = np.random.default_rng(0)
    centres, labels = random.gamma(8, size=(classes, features)), random.integers(0, classes, examples)
    data = np.empty((examples, features), "float32")
    for row, label in enumerate(labels):
        data[row] = centres[label] * random.gamma(0.3, size=features)
    return data, labels


def measure(options):
    """Medians of wall clock and CPU seconds, and what was fitted."""
    data, labels = clusters(options.examples + VALIDATION, options.features, options.classes)
    training, validation = slice(VALIDATION, None), slice(VALIDATION)
    seconds, cpu = [], []
    for _ in range(options.turns):
        began = time.perf_counter(), time.process_time()
        probe = fit_linear_probe(
            data[training], labels[training], options.classes, data[validation], labels[validation]
        )
        seconds.append(time.perf_counter() - began[0])
        cpu.append(time.process_time() - began[1])
    medians = {"seconds": statistics.median(seconds), "cpu_seconds": statistics.median(cpu)}
    return {**medians, "l2": probe.l2, "validation_loss": probe.loss}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=2640)
    parser.add_argument("--features", type=int, default=1280)
    parser.add_argument("--classes", type=int, default=81)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="20,000 examples of 200 classes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.large:
        options.examples, options.classes = 20_000, 200
    found = measure(options)
    print(json.dumps(found, indent=1) if options.json else "  ".join(f"{name} {x:.4g}" for name, x in found.items()))


if __name__ == "__main__":
    main()
