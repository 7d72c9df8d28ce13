"""Is the default `fit` stable and never worse than its linear probe, on image sets of several kinds?

    python benchmarks/stability.py [--sets sample gray_textures digits ...] [--images N] [--seeds 0 1 2] [--size PIXELS]
        [--table DATA.csv --label LABEL --split SPLIT] [--set learning_rate=0.0003 ...] [--verbose] [--json]

For every set and seed: `fine_tune(train="head")` and `fine_tune()` with its defaults, on the embedded EfficientNet-Lite0. The
sets are the embedded drawings, those of `image_sets.py` and `registry_sets.py`, and a table of yours. `--images` takes that
many training and validation images of each set, other ones for each seed, and all test images. A row shows means over the
seeds: validation accuracy of the linear probe and of the trained network, test accuracy of both jobs, how often the trained
network was selected, how often training diverged, and the smallest difference of the two test accuracies in standard errors
of one of them.
"""

import json
import sys
import tempfile
from pathlib import Path

import harness
import image_sets
import numpy as np
import registry_sets

MADE = ("gray_textures", "icons", "left_or_right")
SETS = ("sample", *MADE, *registry_sets.PACKAGES)
SHOWN = ("set", "probe", "trained", "head_test", "test", "selected", "restarts", "worst", "seconds")


def load_set(name, folder, options):
    """The data of a set, as `fine_tune` takes them."""
    from pipelines import Catalog
    from pipelines.sample import DIRECTORY

    if name == "table":
        return Catalog.from_csv(options.table, label=options.label, split=options.split)
    if name == "sample":
        return Catalog.from_folder(DIRECTORY)
    return Catalog.from_folder(getattr(image_sets if name in MADE else registry_sets, name)(folder / name))


def with_few_images(catalog, images, seed):
    """A catalog with so many training and validation images; each class has its share of them, and three at least."""
    catalog = catalog.split()
    labels, splits = np.array(catalog.labels), np.array(catalog.splits)
    learned = np.flatnonzero((splits != "test") & (splits != ""))
    order = np.random.default_rng(seed).permutation(learned)
    taken = {}
    for name in catalog.classes:
        own = order[labels[order] == name]
        taken |= dict.fromkeys(own[: max(3, round(images * len(own) / len(learned)))])
    return catalog.exclude({index: "not drawn" for index in learned if index not in taken})


def run_job(data, out, options, seed, **settings):
    """The time and the accuracies of one `fine_tune`."""
    from pipelines import fine_tune

    common = {"seed": seed, "size": options.size, "progress": options.verbose}
    result, seconds = harness.timed(fine_tune, data, out, **common, **settings)
    metrics = result.metrics
    return {
        "seconds": seconds.elapsed,
        "test": result.accuracy,
        "test_images": metrics["images"]["test"],
        "validation": {name: score["accuracy"] for name, score in metrics["validation"].items()},
        "selected": metrics["selected"],
        "restarts": metrics["restarts"],
        "decisions": metrics["decisions"],
    }


def measure(name, everything, folder, options):
    """Both jobs for every seed."""
    rows = []
    settings = dict(pair.split("=") for pair in options.set)
    settings = {key: json.loads(value) for key, value in settings.items()}
    for seed in options.seeds:
        data = with_few_images(everything, options.images, seed) if options.images else everything
        head = run_job(data, folder / f"{name}-{seed}-head", options, seed, train="head")
        fitted = run_job(data, folder / f"{name}-{seed}", options, seed, **settings)
        rows.append({"set": name, "seed": seed, "head": head, "default": fitted})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def summary(rows):
    """The means of one set, and the worst difference in standard errors."""
    differences = [
        (row["default"]["test"] - row["head"]["test"]) / standard_error(row["head"]["test"], row["head"]["test_images"])
        for row in rows
    ]
    values = [list(row["default"]["validation"].values()) for row in rows]
    return {
        "set": rows[0]["set"],
        "probe": float(np.mean([value[0] for value in values])),
        "trained": float(np.mean([value[-1] for value in values])),
        "head_test": float(np.mean([row["head"]["test"] for row in rows])),
        "test": float(np.mean([row["default"]["test"] for row in rows])),
        "selected": sum(row["default"]["selected"] == "fine_tuned" for row in rows),
        "restarts": sum(len(row["default"]["restarts"]) for row in rows),
        "worst": min(differences),
        "seconds": float(np.mean([row["default"]["seconds"] for row in rows])),
        "runs": rows,
    }


def standard_error(share, count):
    """The standard error of an accuracy, smoothed as in Wilson's interval, so that it is not 0 for accuracies 0 and 1."""
    smoothed = (share * count + 1) / (count + 2)
    return float(np.sqrt(smoothed * (1 - smoothed) / count))


def add_data_options(parser):
    """Options for the sets, the seeds and the size of the images."""
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=SETS, help="names of sets (default: all)")
    parser.add_argument("--table", metavar="DATA.csv", help="one more set")
    parser.add_argument("--label", help="the table's column of labels")
    parser.add_argument("--split", help="the table's column of splits")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="(default: 0 1 2)")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="height and width (default: 224)")


def names_of_sets(options):
    """The names of the sets that `load_set` shall load."""
    return [*options.sets, *(["table"] if options.table else [])]


def main():
    parser = harness.parser(__doc__)
    add_data_options(parser)
    parser.add_argument("--images", type=int, metavar="N", help="training and validation images (default: all)")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the default job")
    parser.add_argument("--verbose", action="store_true", help="show progress bars")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder, found = Path(folder), []
        for name in names_of_sets(options):
            data = load_set(name, folder, options)
            found.append(summary(measure(name, data, folder, options)))
    harness.show(found, options.json, SHOWN)


if __name__ == "__main__":
    main()
