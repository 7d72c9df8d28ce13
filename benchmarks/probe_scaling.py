"""By how little may the linear probe divide a feature? Features that hardly vary are mostly noise.

    python benchmarks/probe_scaling.py [--sets gray_textures emoji ...] [--images 40 400] [--shares 0 0.1 1 3]
        [--seeds 0 1 2] [--size PIXELS] [--table DATA.csv --label LABEL --split SPLIT] [--json]

The linear probe standardises features of the embedded EfficientNet-Lite0: it divides each by its standard deviation, or by a
share of the root mean square of all deviations if that is more. For each share: accuracy and loss of probes that are fitted to
so many images of a set, if it has twice as many. Of all other images, official test images excepted, one half selects the L2
penalty and the other half judges. Means over the seeds.
"""

import few_shot
import harness
import numpy as np
import stability

JUDGED = 1_000  # images at most, of each half


def measure(name, features, targets, images, shares, seeds):
    """One row per share."""
    from keras_cnn.training import fit_linear_probe, logistic_regression

    for share in shares:
        found = []
        for seed in seeds:
            order = np.random.default_rng(seed).permutation(len(targets))
            learned, rest = order[:images], order[images : images + 2 * JUDGED]
            selecting, judging = rest[::2], rest[1::2]
            probe = fit_linear_probe(
                *(features[learned], targets[learned], targets.max() + 1, features[selecting], targets[selecting]),
                smallest_deviation=share,
            )
            logits, truth = probe.logits(features[judging]), targets[judging]
            loss = logistic_regression.cross_entropy(logits, truth)
            found.append((100 * (logits.argmax(1) == truth).mean(), loss, np.abs(probe.kernel).max()))
        accuracy, loss, weight = np.mean(found, axis=0).tolist()
        yield {
            "set": name,
            "images": images,
            "share": share,
            "accuracy": accuracy,
            "loss": loss,
            "largest_weight": weight,
        }


def main():
    parser = harness.parser(__doc__)
    stability.add_data_options(parser)
    parser.add_argument("--images", nargs="+", type=int, default=[40, 400], metavar="N", help="(default: 40 400)")
    parser.add_argument("--shares", nargs="+", type=float, default=[0, 0.1, 1, 3], metavar="X")
    options = parser.parse_args()
    rows = []
    for name, (features,), targets in few_shot.features_of_sets(options, copies=0):
        for images in [each for each in options.images if each <= len(targets) / 2]:
            rows += harness.echo(measure(name, features, targets, images, options.shares, options.seeds))
    harness.show(rows, options.json)


if __name__ == "__main__":
    main()
