"""Fitting a linear probe: the seconds in which L-BFGS reaches the same loss, with our implementation and with SciPy's.

    python benchmarks/head.py [--examples 2640] [--features 1280] [--classes 81] [--turns 5] [--large] [--json]

The features are positive numbers around one centre per class, as a pooled network gives them. For each L2 penalty both
implementations start at zeros and run until the training loss is within a thousandth of a percent of its minimum, in turns.
`--large` means 20,000 examples of 200 classes, which take minutes.
"""

import argparse
import json
import statistics
import time

import numpy as np
from scipy import optimize

from keras_cnn.training import lbfgs, logistic_regression

VALIDATION = 300  # examples
L2_VALUES = (1.0, 0.1, 0.01, 0.001)
CLOSE = 1e-5  # to the minimum, relative to it or to 1 if it is smaller
MOST = 100  # iterations in the search for the minimum


class Reached(Exception):  # noqa: N818
    """Carries the point at which the loss is low enough."""


def by_scipy(function, start, iterations):
    def in_doubles(point):
        value, gradient = function(point.astype("float32"))
        return value, gradient.astype("float64")

    options = {"maxiter": iterations, "maxfun": 10**6, "ftol": 0, "gtol": 0}
    optimize.minimize(in_doubles, start, jac=True, method="L-BFGS-B", options=options)


def ours(function, start, iterations):
    lbfgs.minimise(function, start, 0.0, iterations)


WAYS = {"ours": ours, "scipy": by_scipy}


def clusters(examples, features, classes):
    """Features, standardised by all but the first ones, and class indices."""
    random = np.random.default_rng(0)
    centres, labels = random.gamma(8, size=(classes, features)), random.integers(0, classes, examples)
    data = np.empty((examples, features), "float32")
    for row, label in enumerate(labels):
        data[row] = centres[label] * random.gamma(0.3, size=features)
    data -= data[VALIDATION:].mean(0)
    data /= data[VALIDATION:].std(0)
    return data, labels


def objective(features, labels, classes, l2):
    """The function that `fit_linear_probe` minimises, and its starting point."""
    captured = []
    minimise = logistic_regression.minimise
    logistic_regression.minimise = lambda function, start, _: captured.append(function) or start
    start = np.zeros((features.shape[1] + 1, classes), "float32")
    logistic_regression._minimise(features, labels, start, l2, 0.0, None)
    logistic_regression.minimise = minimise
    return captured[0], start.ravel()


def lowest(function, start, way):
    values = []

    def recorded(point):
        value, gradient = function(point)
        values.append(float(value))
        return value, gradient

    WAYS[way](recorded, start, MOST)
    return min(values)


def reach(function, start, way, target):
    """Wall clock and CPU seconds, number of evaluations, and the point."""
    count = 0

    def watched(point):
        nonlocal count
        count += 1
        value, gradient = function(point)
        if value <= target:
            raise Reached(point.copy())
        return value, gradient

    began = time.perf_counter(), time.process_time()
    try:
        WAYS[way](watched, start, 10 * MOST)
    except Reached as reached:
        return time.perf_counter() - began[0], time.process_time() - began[1], count, reached.args[0]
    raise RuntimeError(f"{way} does not reach {target}")


def measure(options):
    data, labels = clusters(options.examples + VALIDATION, options.features, options.classes)
    training, validation = slice(VALIDATION, None), slice(VALIDATION)
    rows = []
    for l2 in L2_VALUES:
        function, start = objective(data[training], labels[training], options.classes, l2)
        minimum = min(lowest(function, start, way) for way in WAYS)
        target = minimum + CLOSE * max(minimum, 1)
        found = {way: [] for way in WAYS}
        for _ in range(options.turns):
            for way in WAYS:
                found[way].append(reach(function, start, way, target))
        for way, runs in found.items():
            weights = runs[0][3].reshape(-1, options.classes)
            loss = logistic_regression.cross_entropy(data[validation] @ weights[:-1] + weights[-1], labels[validation])
            seconds, cpu = (statistics.median(run[i] for run in runs) for i in (0, 1))
            rows.append({"l2": l2, "way": way, "seconds": seconds, "cpu": cpu, "evaluations": runs[0][2], "loss": loss})
    return rows


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
    rows = measure(options)
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{'L2':>8} {'way':6}{'evaluations':>12}{'seconds':>9}{'CPU s':>8}{'scipy / way':>13}{'validation loss':>17}")
    for row in rows:
        reference = next(other for other in rows if other["way"] == "scipy" and other["l2"] == row["l2"])
        ratio = reference["seconds"] / row["seconds"]
        numbers = f"{row['evaluations']:12}{row['seconds']:9.2f}{row['cpu']:8.2f}{ratio:13.1f}{row['loss']:17.4f}"
        print(f"{row['l2']:8g} {row['way']:6}{numbers}")


if __name__ == "__main__":
    main()
