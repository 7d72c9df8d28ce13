"""Solving a head: with our L-BFGS, and with SciPy's on the same function.

    python benchmarks/head.py [--examples 2640] [--features 1280] [--classes 81] [--turns 5] [--json]

The features are positive numbers around a centre for each class, as a pooled network gives them; all of
`fit_linear_probe` is timed, the choice of the L2 penalty too, in turns.
"""

import argparse
import json
import statistics
import time

import numpy as np
from scipy import optimize

from keras_cnn.training import fit_linear_probe, logistic_regression

CHOSEN_BY = 300  # examples


def by_scipy(function, start, tolerance):
    def in_doubles(point):
        value, gradient = function(point.astype("float32"))
        return value, gradient.astype("float64")

    # By default it ends where the gradient is small as well, which is another amount of work.
    options = {"maxiter": 200, "ftol": tolerance, "gtol": 0}
    found = optimize.minimize(in_doubles, start, jac=True, method="L-BFGS-B", options=options)
    return found.x.astype("float32")


def clouds(examples, features, classes):
    """Features and class numbers."""
    random = np.random.default_rng(0)
    centres, labels = random.gamma(8, size=(classes, features)), random.integers(0, classes, examples)
    return (centres[labels] * random.gamma(0.3, size=(examples, features))).astype("float32"), labels


def measure(options):
    """Medians of seconds, and the loss on the examples that the penalty was chosen by, for each way."""
    data, labels = clouds(options.examples + CHOSEN_BY, options.features, options.classes)
    learned, held_out = slice(CHOSEN_BY, None), slice(CHOSEN_BY)
    ways = {"ours": logistic_regression.minimise, "scipy": by_scipy}
    seconds, losses = {way: [] for way in ways}, {}
    for _ in range(options.turns):
        for way, minimise in ways.items():
            logistic_regression.minimise = minimise
            start = time.perf_counter()
            head = fit_linear_probe(data[learned], labels[learned], options.classes, data[held_out], labels[held_out])
            seconds[way].append(time.perf_counter() - start)
            losses[way] = head.loss
    return {way: {"seconds": statistics.median(seconds[way]), "loss": losses[way]} for way in ways}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=2640)
    parser.add_argument("--features", type=int, default=1280)
    parser.add_argument("--classes", type=int, default=81)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{'way':8}{'seconds':>10}{'scipy / way':>13}{'loss':>10}")
    for way, row in found.items():
        print(f"{way:8}{row['seconds']:10.2f}{found['scipy']['seconds'] / row['seconds']:13.1f}{row['loss']:10.4f}")


if __name__ == "__main__":
    main()
