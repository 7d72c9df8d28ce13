"""The seconds that `fit_linear_probe` takes, the search for the L2 penalty included.

    python benchmarks/head.py [--examples 2640] [--features 1280] [--classes 81] [--turns 5] [--large] [--json]

The features are positive numbers around one centre per class, as a pooled network gives them. `--large` means 20,000 examples
of 200 classes, which take minutes.
"""

import statistics

import harness
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
    """Medians of the elapsed and of the processor seconds, and what was fitted."""
    data, labels = clusters(options.examples + VALIDATION, options.features, options.classes)
    training, validation = slice(VALIDATION, None), slice(VALIDATION)
    arguments = data[training], labels[training], options.classes, data[validation], labels[validation]
    probes, times = zip(*(harness.timed(fit_linear_probe, *arguments) for _ in range(options.turns)), strict=True)
    elapsed, processor = map(statistics.median, zip(*times, strict=True))
    return {
        "elapsed_seconds": elapsed,
        "processor_seconds": processor,
        "l2": probes[0].l2,
        "validation_loss": probes[0].loss,
    }


def main():
    parser = harness.parser(__doc__, turns=5)
    parser.add_argument("--examples", type=int, default=2640, help="training examples (default: %(default)s)")
    parser.add_argument("--features", type=int, default=1280, help="features per example (default: %(default)s)")
    parser.add_argument("--classes", type=int, default=81, help="number of classes (default: %(default)s)")
    parser.add_argument("--large", action="store_true", help="20,000 examples of 200 classes")
    options = parser.parse_args()
    if options.large:
        options.examples, options.classes = 20_000, 200
    harness.show([measure(options)], options.json)


if __name__ == "__main__":
    main()
