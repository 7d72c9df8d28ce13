"""The head once more: fitted to the features that the network has after fine-tuning, and at last to the validation images too.

Gradient descent leaves the head far from the best one for its features, and validation images are a tenth of all images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, softmax

from keras_cnn.training import LinearProbe, fit_linear_probe
from pipelines.progress import Progress
from pipelines.training.feature_extractor import inference, precision_for
from pipelines.training.head import HeadFit, pooling, probed_copies, sample_weight


@dataclass(frozen=True)
class PooledFeatures:
    """What a head can be fitted to.

    Attributes:
        train: Pooled features of the images that the head learns from, `(images, features)`.
        labels: The targets of these.
        validation: Pooled features of the validation images.
    """

    train: np.ndarray
    labels: np.ndarray
    validation: np.ndarray


def features_of_probe(head: HeadFit) -> PooledFeatures:
    """From the cached features, by the network as it was before fine-tuning or, unless all of it is trained, as it is now."""
    copies = probed_copies(head.copies, head.settings)
    pool = pooling(head.partition, sum(map(len, copies)) + len(head.validation_features))
    labels = np.concatenate([head.data.targets("train")] * len(copies))
    return PooledFeatures(np.concatenate([pool(each) for each in copies]), labels, pool(head.validation_features))


def features_of_tuned(head: HeadFit, progress: Progress) -> PooledFeatures:
    """By the network as it is now."""
    if not head.settings.trains_on_images:
        return features_of_probe(head)
    found, images = [], len(head.data.indices("train")) + len(head.data.indices("validation"))
    run = inference(head.partition.frozen, images, precision_for(images))
    with progress.phase("Features after training", images) as advance:
        for split in ("train", "validation"):
            for batch, _ in head.data.batches(split)():
                found.append(run(batch))
                advance(len(batch))
    pooled, learned = np.concatenate(found), len(head.data.indices("train"))
    return PooledFeatures(pooled[:learned], head.data.targets("train"), pooled[learned:])


def fit_again(head: HeadFit, features: PooledFeatures) -> tuple[LinearProbe, np.ndarray]:
    """The probe with the lowest loss on validation, and the probabilities that it gives for the validation images."""
    probe = fit_linear_probe(
        features.train,
        features.labels,
        head.data.num_classes,
        features.validation,
        head.data.targets("validation"),
        sample_weight=sample_weight(features.labels, head.data, head.settings),
    )
    logits = probe.logits(features.validation)
    return probe, expit(logits) if features.labels.ndim == 2 else softmax(logits, axis=1)


def fit_to_validation_too(head: HeadFit, features: PooledFeatures, probe: LinearProbe) -> LinearProbe:
    """The same probe, fitted to the validation images too, once they have decided everything."""
    labels = np.concatenate([features.labels, head.data.targets("validation")])
    everything = np.concatenate([features.train, features.validation])
    return fit_linear_probe(
        everything,
        labels,
        head.data.num_classes,
        *(everything[:1], labels[:1]),  # nothing to select
        (probe.l2,),
        start=probe,
        sample_weight=sample_weight(labels, head.data, head.settings),
    )
