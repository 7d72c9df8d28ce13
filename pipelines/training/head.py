"""The head of a classifier, fitted as a linear probe on cached features: before fine-tuning, and instead of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from keras_cnn import Backbone
from keras_cnn.builder import attach
from keras_cnn.training import LinearProbe, calibration, fit_linear_probe
from pipelines import augment
from pipelines.augment import Augmentation, check_flips, check_flips_by_cross_validation
from pipelines.datasets.array_cache import ArrayCache, digest
from pipelines.datasets.order import class_weights
from pipelines.progress import Progress
from pipelines.settings import FEWEST_COPIES, Settings
from pipelines.training.feature_extractor import (
    FeatureExtractor,
    Partition,
    in_batches,
    inference,
    partition,
    precision_for,
)
from pipelines.training.fingerprints import network_digest
from pipelines.training.split_images import BATCH_SIZE, SplitImages, naming_files
from pipelines.training.task import Task, task_for


@dataclass(frozen=True)
class HeadFit:
    """A classifier whose head is a linear probe, and all that training starts from.

    Attributes:
        model: Images -> probabilities; the probe's weights are in its layer "logits".
        backbone: The `keras_cnn.Backbone` in it.
        data: Its images and targets.
        settings: The settings, with what validation decided: `horizontal_flip`, `augmented_copies`.
        task: What is learned.
        partition: The parts of `model`.
        copies: Cached features of the training images: the plain ones, then one array per augmented copy.
        validation_features: Those of the validation images.
        probe: The weights.
        probabilities: Of the validation images, `(images, classes)`, before the probe learned from them.
        score: The score of these.
        description: All that decides the outcome of the job, plain values by name.
        preview: A figure of the augmentation, uint8 `(height, width, 3)`, or None.
    """

    model: keras.Model
    backbone: Backbone
    data: SplitImages
    settings: Settings
    task: Task
    partition: Partition
    copies: tuple[np.ndarray, ...]
    validation_features: np.ndarray
    probe: LinearProbe
    probabilities: np.ndarray
    score: dict[str, float]
    description: dict[str, Any]
    preview: np.ndarray | None = None


def fit_head(
    backbone: Backbone, data: SplitImages, settings: Settings, cache: ArrayCache, progress: Progress
) -> HeadFit:
    """Put a head on a backbone and fit it as a linear probe.

    Args:
        backbone: The network; its model becomes a part of the classifier.
        data: Images and targets.
        settings: What to train; `horizontal_flip` None is decided here.
        cache: Where features are cached.
        progress: Shows how far it is.
    """
    task = task_for(data.catalog)
    model = attach(backbone.model, task.head(settings.dropout))
    description = _describe(settings, backbone, data)
    parts = partition(model, settings.feature_layer)
    augments = settings.augments and not settings.trains_on_images
    count = (settings.augmented_copies if augments else 1) * len(data.indices("train")) + len(
        data.indices("validation")
    )
    extractor = FeatureExtractor(parts.frozen, backbone, cache, count)
    if augments:
        most = max(FEWEST_COPIES, extractor.copies_that_fit(len(data.indices("train"))))
        settings = replace(settings, augmented_copies=min(settings.augmented_copies, most))
    pool, predict = _pooling(parts, count), inference(parts.head)
    extract = _Extract(extractor, data, progress)

    plain, held_out = extract("train"), extract("validation")
    pooled = pool(held_out)
    probe = _fit_probe([pool(plain)], data, settings, pooled, progress)
    _set_probe(parts, probe)
    if settings.horizontal_flip is None:
        # Without augmentation only the last stage learns from flips: for the head alone their features take too long.
        matters = settings.augments or settings.train == "last"
        safe = matters and _flips_are_safe(
            plain, held_out, probe, data, lambda split: extract(split, flipped=True), pool, predict
        )
        settings = replace(settings, horizontal_flip=safe)
    flips = settings.horizontal_flip and settings.light

    copies: tuple[np.ndarray, ...] = (plain,)
    preview = None
    if augments:
        more, preview = _augmented_copies(extractor, data, settings, cache, progress)
        copies += more
    elif flips:
        copies += (extract("train", flipped=True),)
    if len(_probed(copies, settings)) > 1:
        probe = _fit_probe([pool(each) for each in copies], data, settings, pooled, progress)
        _set_probe(parts, probe)
    probabilities = in_batches(predict, pooled)
    score = task.score(probabilities, data.targets("validation"))
    return HeadFit(
        model=model,
        backbone=backbone,
        data=data,
        settings=settings,
        task=task,
        partition=parts,
        copies=copies,
        validation_features=held_out,
        probe=probe,
        probabilities=probabilities,
        score=score,
        description=description,
        preview=preview,
    )


def refit_head(head: HeadFit, progress: Progress) -> None:
    """Fit the probe to the validation images too, once they have decided everything: they are many of a few images."""
    copies = _probed(head.copies, head.settings)
    pool = _pooling(head.partition, sum(map(len, copies)) + len(head.validation_features))
    targets = [head.data.targets("train")] * len(copies) + [head.data.targets("validation")]
    with progress.phase("Fitting the head"):
        features = np.concatenate([pool(each) for each in (*copies, head.validation_features)])
        labels = np.concatenate(targets)
        probe = fit_linear_probe(
            features,
            labels,
            head.data.num_classes,
            features,
            labels,
            (head.probe.l2,),
            start=head.probe,
            sample_weight=_sample_weight(labels, head.data, head.settings),
        )
        _set_probe(head.partition, probe)


def _probed(copies: tuple[np.ndarray, ...], settings: Settings) -> tuple[np.ndarray, ...]:
    """The copies that the probe is fitted to; where more than the last stage is trained, it is only the start: plain ones."""
    return copies if settings.light else copies[:1]


@dataclass(frozen=True)
class _Extract:
    """The features of the images of a split, plain or flipped."""

    extractor: FeatureExtractor
    data: SplitImages
    progress: Progress

    def __call__(self, split: str, flipped: bool = False) -> np.ndarray:
        name = f"Features of {split}{', flipped' if flipped else ''}"
        with self.progress.phase(name, len(self.data.indices(split))) as advance:
            return self.extractor.features(self.data.batches(split), self.data.cache_key(split), advance, flipped)


def _describe(settings, backbone, data):
    """All that decides what a job gives. Made before training, which may change the network in place."""
    return {
        **settings.to_dict(),
        "backbone": str(backbone.source),
        "weights": network_digest(backbone.model),
        "images": digest(data.images.key, data.catalog.labels, data.catalog.splits),
    }


def _pooling(parts: Partition, images: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function from cached features to pooled features in float32."""
    if parts.neck is None:
        return lambda features: features.astype("float32")
    run = inference(parts.neck, images, precision_for(images))
    return lambda features: in_batches(run, features)


def _fit_probe(
    copies: Sequence[np.ndarray], data: SplitImages, settings: Settings, validation: np.ndarray, progress: Progress
) -> LinearProbe:
    labels = np.concatenate([data.targets("train")] * len(copies))
    with progress.phase("Fitting the head"):
        return fit_linear_probe(
            np.concatenate(copies),
            labels,
            data.num_classes,
            validation,
            data.targets("validation"),
            sample_weight=_sample_weight(labels, data, settings),
        )


def _sample_weight(labels: np.ndarray, data: SplitImages, settings: Settings) -> np.ndarray | None:
    """Weights with which all classes count the same, however `class_balance` is achieved in training."""
    return class_weights(labels, data.num_classes)[labels] if settings.class_balance else None


def _set_probe(parts: Partition, probe: LinearProbe) -> None:
    parts.rest.get_layer("logits").set_weights([probe.kernel, probe.bias])


def _flips_are_safe(plain, held_out, probe, data, flipped, pool, predict) -> bool:
    """Whether a probe that saw no flipped images knows them: on validation, or by cross-validation where that is small.

    With too few images for either, the answer is no: two classes may differ by left and right alone.
    """
    truth, learned = data.targets("validation"), data.targets("train")
    if len(truth) + len(learned) < calibration.MIN_EXAMPLES:
        return False
    if len(truth) >= calibration.MIN_EXAMPLES:
        plain_probabilities = in_batches(predict, pool(held_out))
        return check_flips(plain_probabilities, in_batches(predict, pool(flipped("validation"))), truth).is_safe
    features = np.concatenate([pool(plain), pool(held_out)])
    others = np.concatenate([pool(flipped("train")), pool(flipped("validation"))])
    labels = np.concatenate([learned, truth])
    return check_flips_by_cross_validation(features, others, labels, data.num_classes, probe.l2).is_safe


def augmentation_of(settings: Settings) -> Augmentation:
    """The augmentation that settings name, without flips unless they are safe."""
    if isinstance(settings.augmentation, Augmentation):
        return settings.augmentation
    return augment.preset(settings.augmentation, horizontal_flip=bool(settings.horizontal_flip))


def _augmented_copies(extractor, data, settings, cache, progress):
    """Features of augmented copies of the training images, one array per copy; and a preview of them."""
    # Features of two images cannot be mixed as the images could.
    augmentation = replace(augmentation_of(settings), mixup=0.0, cutmix=0.0)
    with progress.phase("Reading larger images", len(data.indices("train"))) as advance:
        source = data.load_larger(augmentation, cache, advance)
    batches = data.augmented_batches(source, augmentation, BATCH_SIZE, settings.seed, shuffle=False)
    key, epochs = data.augmented_cache_key(augmentation, settings.seed), range(1, settings.augmented_copies)
    with (
        progress.phase("Features of augmented copies", len(epochs) * batches.examples) as advance,
        naming_files(source),
    ):
        copies = tuple(extractor.features(batches, key, advance, epoch=epoch) for epoch in epochs)
    return copies, data.preview(source, augmentation, settings.seed)
