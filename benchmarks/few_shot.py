"""Which head suits one to four images per class, and do augmented copies of them help?

    python benchmarks/few_shot.py [--sets emoji fashion ...] [--per-class 1 2 4] [--seeds 0 1 2] [--size PIXELS]
        [--table DATA.csv --label LABEL --split SPLIT] [--json]

Heads on the pooled features of the embedded EfficientNet-Lite0, fitted to a few images per class and tested on all other
images of the set, official test images excepted: logistic regression with a strong, a middle and a weak L2 penalty, the
nearest class mean by cosine similarity, and linear discriminant analysis (Mahalanobis distance) with shrinkage. Each is fitted
to the plain images, and to these and four augmented copies. Mean accuracy over the seeds.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import harness
import numpy as np
import stability

COPIES = 4
L2 = {"strong": 10.0, "middle": 1.0, "weak": 0.1}
SHRINKAGE = 0.3


def pooled_features(catalog, size, cache, copies=COPIES):
    """Features of all images: of the plain ones, then of each augmented copy, `(1 + copies, images, features)`; targets."""
    import keras_cnn as kc
    from keras_cnn.builder import attach
    from pipelines import doctor
    from pipelines.augment import PRESETS
    from pipelines.training.feature_extractor import inference
    from pipelines.training.split_images import SplitImages

    backbone = kc.load_backbone("efficientnet_lite0", (size, size, 3))
    catalog, images = doctor.read(catalog, backbone.preprocessing, cache)
    # All images are one split here: which ones teach is drawn later.
    everything = replace(catalog, splits=("train",) * len(catalog.splits))
    data = SplitImages(everything, images, backbone.preprocessing)
    run = inference(attach(backbone.model, kc.heads.features()), len(catalog.included()))
    augmentation = replace(PRESETS["light"], horizontal_flip=False)
    source = data.load_larger(augmentation, cache, lambda count: None)
    batches = data.augmented_batches(source, augmentation, 32, seed=0, shuffle=False)
    passes = [data.batches("train")(), *(batches(copy) for copy in range(copies))]
    return np.stack([np.concatenate([run(images) for images, _ in each]) for each in passes]), data.targets("train")


def features_of_sets(options, copies=COPIES):
    """Name, features and targets of each set that the options name, as `pooled_features` gives them, without test images."""
    from pipelines.datasets.array_cache import ArrayCache

    with tempfile.TemporaryDirectory() as folder:
        for name in stability.names_of_sets(options):
            catalog = stability.load_set(name, Path(folder), options).split()
            catalog = catalog.exclude(dict.fromkeys(catalog.included("test"), "official test"))
            yield name, *pooled_features(catalog, options.size or 224, ArrayCache(), copies)


def logistic_regression(l2):
    """A function of features, targets and features to classify that gives scores, `(images, classes)`."""
    from keras_cnn.training import fit_linear_probe

    def scores(features, targets, others):
        judged = (features[:1], targets[:1])  # nothing to select
        return fit_linear_probe(features, targets, targets.max() + 1, *judged, (l2,)).logits(others)

    return scores


def cosine(features, targets, others):
    """Cosine similarity to the mean of the unit vectors of each class."""
    features, others = standardised(features, others)
    means = class_means(unit(features), targets)
    return unit(others) @ unit(means).T


def discriminant(features, targets, others):
    """Linear discriminant analysis: the nearest mean by Mahalanobis distance, with a shrunken covariance."""
    features, others = standardised(features, others)
    means = class_means(features, targets)
    rest = features - means[targets]
    covariance = rest.T @ rest / len(rest)
    level = max(np.trace(covariance) / len(covariance), 1e-3)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * level * np.eye(len(covariance))
    weights = np.linalg.solve(covariance, means.T)
    return others @ weights - (means.T * weights).sum(0) / 2


def standardised(features, others):
    from keras_cnn.training.logistic_regression import SMALLEST_DEVIATION

    mean, deviation = features.mean(0), features.std(0)
    deviation = np.maximum(deviation, SMALLEST_DEVIATION * np.sqrt((deviation**2).mean()))  # as `fit_linear_probe`
    return (features - mean) / deviation, (others - mean) / deviation


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def class_means(features, targets):
    return np.stack([features[targets == number].mean(0) for number in range(targets.max() + 1)])


def heads():
    return {**{f"l2_{name}": logistic_regression(l2) for name, l2 in L2.items()}, "cosine": cosine, "lda": discriminant}


def draw(targets, per_class, seed):
    """The indices of so many images per class, and all other indices."""
    order = np.random.default_rng(seed).permutation(len(targets))
    learned = np.concatenate([order[targets[order] == number][:per_class] for number in range(targets.max() + 1)])
    return learned, np.setdiff1d(order, learned)


def measure(name, features, targets, per_class, seeds):
    """Two rows: fitted to plain images, and to augmented copies too."""
    for copies, used in (("plain", features[:1]), ("augmented", features)):
        row = {"set": name, "per_class": per_class, "copies": copies}
        for head, scores in heads().items():
            shares = []
            for seed in seeds:
                learned, tested = draw(targets, per_class, seed)
                some = np.concatenate(used[:, learned])
                found = scores(some, np.tile(targets[learned], len(used)), features[0, tested])
                shares.append((found.argmax(1) == targets[tested]).mean())
            row[head] = float(np.mean(shares))
        yield row


def main():
    parser = harness.parser(__doc__)
    stability.add_data_options(parser)
    parser.add_argument("--per-class", nargs="+", type=int, default=[1, 2, 4], help="(default: 1 2 4)")
    options = parser.parse_args()
    rows = []
    for name, features, targets in features_of_sets(options):
        for per_class in options.per_class:
            rows += harness.echo(measure(name, features, targets, per_class, options.seeds))
    harness.show(rows, options.json)


if __name__ == "__main__":
    main()
