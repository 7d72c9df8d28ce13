"""The head of a classifier, fitted as a linear probe on cached features: before fine-tuning, and instead of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras
import numpy as np
from scipy.special import expit, softmax

from keras_cnn import Backbone
from keras_cnn.arguments import join_some
from keras_cnn.builder import attach
from keras_cnn.training import LinearProbe, calibration, fit_linear_probe
from keras_cnn.training.logistic_regression import L2_VALUES, cross_entropy, search_l2
from pipelines import augment
from pipelines.augment import Augmentation, FlipCheck, check_flips, check_flips_by_cross_validation
from pipelines.datasets.array_cache import ArrayCache, digest
from pipelines.datasets.order import class_weights
from pipelines.progress import Progress
from pipelines.settings import FEWEST_COPIES, Settings
from pipelines.training.decisions import Decision
from pipelines.training.feature_extractor import (
    FeatureExtractor,
    Partition,
    in_batches,
    inference,
    partition,
    precision_for,
)
from pipelines.training.fingerprints import network_digest
from pipelines.training.folds import assign_folds, teaches_all_classes
from pipelines.training.split_images import BATCH_SIZE, SplitImages, naming_files
from pipelines.training.task import Task, task_for

FEW = 200  # training and validation images
FEW_L2_VALUES = L2_VALUES[::2]  # with few images a finer choice would be one by chance


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
        copies: Cached features of the images to train on: the plain ones, then one array per augmented copy. These are the
            training images; with few images the validation images too, and cross-validation decides.
        targets: The targets of these images.
        validation_features: Cached features of the validation images.
        probe: The weights.
        probabilities: Of the images that decide, `(images, classes)`, from a probe that did not learn from them: of the
            validation images, or of all images in `copies`.
        truth: The targets of the images that decide.
        score: The score of `probabilities`.
        fold_of: The fold of each image in `copies`; None where the validation images decide.
        fold_probes: The probe for each fold, fitted to the other folds.
        decisions: What was decided from the data.
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
    targets: np.ndarray
    validation_features: np.ndarray
    probe: LinearProbe
    probabilities: np.ndarray
    truth: np.ndarray
    score: dict[str, float]
    description: dict[str, Any]
    fold_of: np.ndarray | None = None
    fold_probes: tuple[LinearProbe, ...] = ()
    decisions: tuple[Decision, ...] = ()
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
    extractor, settings = _make_extractor(parts, backbone, data, settings, cache)
    extract = _Extract(extractor, data, progress)
    pool, predict = pooling(parts, extractor.images), inference(parts.head)

    learned = _choose_learned(settings, data)
    plain, held_out = extract(learned.splits), extract(("validation",))
    validation = pool(held_out)
    # Of many images, from a stage on, the probe is only the start of training: plain images are enough.
    pooled = [pool(plain)]
    fitted = _fit_probe(pooled, learned, validation, settings, progress)
    set_probe(parts, fitted.probe)

    def judge_flips() -> Decision:
        flipped = partial(extract, flipped=True)
        return _decide_on_flips(pooled[0], validation, fitted, learned, lambda splits: pool(flipped(splits)), predict)

    settings, decisions = _settle_flips(settings, judge_flips)
    more, preview = _make_copies(extract, learned.splits, settings, cache)
    copies = (plain, *more)
    if len(probed_copies(copies, settings)) > 1:
        pooled += [pool(each) for each in more]
        fitted = _fit_probe(pooled, learned, validation, settings, progress)
        set_probe(parts, fitted.probe)
    probabilities = in_batches(predict, validation) if fitted.held_out is None else fitted.held_out
    truth = data.targets("validation") if fitted.held_out is None else learned.targets
    return HeadFit(
        model=model,
        backbone=backbone,
        data=data,
        settings=settings,
        task=task,
        partition=parts,
        copies=copies,
        targets=learned.targets,
        validation_features=held_out,
        probe=fitted.probe,
        probabilities=probabilities,
        truth=truth,
        score=task.score(probabilities, truth),
        description=description,
        fold_of=learned.fold_of,
        fold_probes=fitted.fold_probes,
        decisions=decisions,
        preview=preview,
    )


def _make_extractor(parts, backbone, data, settings, cache):
    """What computes features; and the settings with no more augmented copies than the cache has room for."""
    images = len(data.indices("train"))
    copies = settings.augmented_copies if caches_copies(settings) else 1
    extractor = FeatureExtractor(parts.frozen, backbone, cache, copies * images + len(data.indices("validation")))
    if caches_copies(settings):
        most = max(FEWEST_COPIES, extractor.copies_that_fit(images))
        settings = replace(settings, augmented_copies=min(copies, most))
    return extractor, settings


def caches_copies(settings: Settings) -> bool:
    """Whether features of augmented copies are cached."""
    return settings.augments and not settings.trains_on_images


def _settle_flips(settings, judge) -> tuple[Settings, tuple[Decision, ...]]:
    """The settings with `horizontal_flip` True or False, and the decision if the data have made it."""
    if isinstance(settings.augmentation, Augmentation):
        return replace(settings, horizontal_flip=settings.augmentation.horizontal_flip), ()
    if settings.horizontal_flip is not None:
        return settings, ()
    # Without augmentation the head alone does not learn from flips: their features take too long.
    if not (settings.augments or (settings.light and settings.epochs)):
        return replace(settings, horizontal_flip=False), ()
    decision = judge()
    return replace(settings, horizontal_flip=decision.value), (decision,)


def _make_copies(extract, splits, settings, cache) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Features of augmented or flipped copies of the images of some splits, one array per copy; and a preview."""
    if not caches_copies(settings):
        return ([extract(splits, flipped=True)] if settings.horizontal_flip and settings.light else []), None
    found = [
        _augmented_copies(extract.extractor, extract.data, settings, cache, extract.progress, split) for split in splits
    ]
    copies = zip(*(of_split for of_split, _ in found), strict=True)
    return [np.concatenate(of_splits) for of_splits in copies], found[0][1]


@dataclass(frozen=True)
class _Learned:
    """The images that a probe learns from: splits, targets and, where they judge each other, folds."""

    data: SplitImages
    splits: tuple[str, ...]
    targets: np.ndarray
    fold_of: np.ndarray | None


def decides_by_folds(settings: Settings, training_images: int, validation_images: int) -> bool:
    """Whether so few validation images would decide by chance, so that cross-validation does."""
    few = training_images + validation_images < FEW and validation_images < calibration.MIN_EXAMPLES
    return settings.light and few


def _choose_learned(settings: Settings, data: SplitImages) -> _Learned:
    """The training images; with few images the validation images too, in folds."""
    targets = np.concatenate([data.targets("train"), data.targets("validation")])
    if decides_by_folds(settings, len(data.indices("train")), len(data.indices("validation"))):
        fold_of = assign_folds(targets, data.units("train") + data.units("validation"))
        if teaches_all_classes(targets, fold_of):
            return _Learned(data, ("train", "validation"), targets, fold_of)
    return _Learned(data, ("train",), data.targets("train"), None)


def probed_copies(copies: tuple[np.ndarray, ...], settings: Settings) -> tuple[np.ndarray, ...]:
    """The copies that the probe is fitted to; only plain ones where it is no more than the start of training later stages."""
    return copies if settings.light else copies[:1]


@dataclass(frozen=True)
class _Extract:
    """The features of the images of some splits, plain or flipped."""

    extractor: FeatureExtractor
    data: SplitImages
    progress: Progress

    def __call__(self, splits: Sequence[str], flipped: bool = False) -> np.ndarray:
        found = [self._of(split, flipped) for split in splits]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _of(self, split: str, flipped: bool) -> np.ndarray:
        name = f"Features of {split}{', flipped' if flipped else ''}"
        with self.progress.phase(name, len(self.data.indices(split))) as advance:
            return self.extractor.features(self.data.batches(split), self.data.cache_key(split), advance, flipped)


def _describe(settings, backbone, data):
    """All that decides what a job gives. Made before training, which may change the network in place."""
    return {
        **settings.to_dict(),
        "backbone": str(backbone.source),
        "weights": network_digest(backbone.model),
        "images": digest(data.images.key, data.catalog.labels, data.catalog.splits, data.catalog.groups),
    }


def pooling(parts: Partition, images: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function from cached features to pooled features in float32."""
    if parts.neck is None:
        return lambda features: features.astype("float32")
    run = inference(parts.neck, images, precision_for(images))
    return lambda features: in_batches(run, features)


@dataclass(frozen=True)
class _Fitted:
    """A linear probe; with folds also one per fold, and what they give for the images that they have not seen."""

    probe: LinearProbe
    fold_probes: tuple[LinearProbe, ...] = ()
    held_out: np.ndarray | None = None


def _fit_probe(
    copies: Sequence[np.ndarray], learned: _Learned, validation: np.ndarray, settings: Settings, progress: Progress
) -> _Fitted:
    with progress.phase("Fitting the head"):
        if learned.fold_of is not None:
            return _fit_probe_by_folds(copies, learned, settings)
        data, labels = learned.data, np.concatenate([learned.targets] * len(copies))
        probe = fit_linear_probe(
            np.concatenate(copies),
            labels,
            data.num_classes,
            validation,
            data.targets("validation"),
            sample_weight=sample_weight(labels, data, settings),
        )
        return _Fitted(probe)


def _fit_probe_by_folds(copies, learned, settings) -> _Fitted:
    """The L2 penalty with the lowest loss on held-out folds, and the probe that is fitted to all of them with it."""
    data, targets, fold_of = learned.data, learned.targets, learned.fold_of

    def fit(rows, l2, start=None):
        labels = np.concatenate([targets[rows]] * len(copies))
        features = np.concatenate([each[rows] for each in copies])
        weights = sample_weight(labels, data, settings)
        judged = (features[:1], labels[:1])  # nothing to select
        return fit_linear_probe(features, labels, data.num_classes, *judged, (l2,), start, weights)

    def fit_folds(l2, before):
        probes = [
            fit(fold_of != fold, l2, None if before is None else before[2][fold]) for fold in range(fold_of.max() + 1)
        ]
        logits = np.empty((len(targets), data.num_classes), "float32")
        for fold, probe in enumerate(probes):
            logits[fold_of == fold] = probe.logits(copies[0][fold_of == fold])
        return cross_entropy(logits, targets), l2, probes, logits

    _, l2, probes, logits = search_l2(FEW_L2_VALUES, fit_folds, lambda found: found[0])
    probabilities = expit(logits) if targets.ndim == 2 else softmax(logits, axis=1)
    return _Fitted(fit(np.arange(len(targets)), l2), tuple(probes), probabilities)


def sample_weight(labels: np.ndarray, data: SplitImages, settings: Settings) -> np.ndarray | None:
    """Weights with which all classes count the same, however `class_balance` is achieved in training."""
    return class_weights(labels, data.num_classes)[labels] if settings.balance else None


def set_probe(parts: Partition, probe: LinearProbe) -> None:
    """Make a probe the head of the classifier that the parts belong to."""
    parts.rest.get_layer("logits").set_weights([probe.kernel, probe.bias])


def _decide_on_flips(plain, validation, fitted, learned, flipped, predict) -> Decision:
    """Whether a probe that saw no flipped images knows them: on validation, or by cross-validation where that is small.

    With too few images for either, the answer is no: two classes may differ by left and right alone.
    """
    data, fold_of = learned.data, learned.fold_of
    truth, count = data.targets("validation"), len(data.indices("train")) + len(data.indices("validation"))
    if count < calibration.MIN_EXAMPLES:
        reason = f"fewer than {calibration.MIN_EXAMPLES} images cannot tell whether left and right matter"
        return Decision("horizontal_flip", False, reason)
    if len(truth) >= calibration.MIN_EXAMPLES:
        found = check_flips(in_batches(predict, validation), in_batches(predict, flipped(["validation"])), truth)
        return _decision_on_flips(found, f"{len(truth)} validation images", data)
    features = plain if fold_of is not None else np.concatenate([plain, validation])
    labels = np.concatenate([data.targets("train"), truth])
    if fold_of is None:
        fold_of = assign_folds(labels, data.units("train") + data.units("validation"))
    others = flipped(["train", "validation"])
    found = check_flips_by_cross_validation(features, others, labels, data.num_classes, fitted.probe.l2, fold_of)
    return _decision_on_flips(found, f"cross-validation of {count} images", data)


def _decision_on_flips(found: FlipCheck, judge: str, data: SplitImages) -> Decision:
    losses = (
        f"a linear probe that saw no flipped images has loss {found.plain:.3g}, and {found.flipped:.3g} on flipped ones"
    )
    harmed = [data.catalog.classes[number] for number in found.harmed]
    harm = f"; it no longer knows {join_some(harmed, 3)}" if harmed else ""
    return Decision("horizontal_flip", found.is_safe, f"{losses}{harm} ({judge})")


def augmentation_of(settings: Settings) -> Augmentation:
    """The augmentation that settings name, without flips unless they are safe."""
    if isinstance(settings.augmentation, Augmentation):
        return settings.augmentation
    return augment.preset(settings.augmentation, horizontal_flip=bool(settings.horizontal_flip))


def _augmented_copies(extractor, data, settings, cache, progress, split):
    """Features of augmented copies of the images of a split, one array per copy; and a preview of them."""
    # Features of two images cannot be mixed as the images could.
    augmentation = replace(augmentation_of(settings), mixup=0.0, cutmix=0.0)
    with progress.phase("Reading larger images", len(data.indices(split))) as advance:
        source = data.load_larger(augmentation, cache, advance, split)
    batches = data.augmented_batches(source, augmentation, BATCH_SIZE, settings.seed, shuffle=False, split=split)
    key, count = data.augmented_cache_key(augmentation, settings.seed, split), settings.augmented_copies - 1
    with progress.phase("Features of augmented copies", count * batches.examples) as advance, naming_files(source):
        copies = extractor.copies(batches, key, advance, count)
    return copies, data.preview(source, augmentation, settings.seed)
