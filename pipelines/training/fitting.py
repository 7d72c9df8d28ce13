"""Fine-tuning: from a fitted head on, train the last stages or the whole network."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import keras

import keras_cnn as kc
from keras_cnn import keras_internals, surgery
from keras_cnn.builder import attach
from pipelines.datasets.array_cache import ArrayCache
from pipelines.datasets.feature_batches import FeatureBatches, to_one_hot
from pipelines.progress import EpochBar, Progress
from pipelines.settings import Settings
from pipelines.training.head import HeadFit, augmentation_of
from pipelines.training.restarts import FitResult, Start, fit_with_restarts
from pipelines.training.split_images import BATCH_SIZE, naming_files


def fit(
    head: HeadFit,
    folder: Path,
    cache: ArrayCache,
    progress: Progress,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> FitResult:
    """Train a classifier in place, from its linear probe on; it ends with the weights of its best epoch.

    Args:
        head: Its head, fitted.
        folder: Where the state of the job is; an interrupted training resumes from there.
        cache: Where decoded images are cached.
        progress: Shows how far it is.
        callbacks: Keras callbacks.

    Raises:
        FrozenWeightsError: If a frozen weight has changed.
        TrainingError: If memory does not suffice for a batch.
    """
    settings, task, data = head.settings, head.task, head.data
    start_weights = head.model.get_weights()
    set_trainable(head.model, _first_trainable(head), settings)
    model, batches, validation, preview = (_image_data if settings.trains_on_images else _feature_data)(
        head, cache, progress
    )
    truth = data.targets("validation")
    with (
        progress.phase("Fine-tuning", settings.epochs * batches.steps) as advance,
        kc.check_frozen(head.model),
        naming_files(getattr(batches, "source", None)),
        kc.training.mixed_precision(head.backbone.model) if settings.mixed_precision else nullcontext(),
    ):
        start = Start(task, head.score, task.chance(data.targets("train"), truth), len(truth), progress.report)
        watching = [EpochBar(advance, task.primary_metric), *callbacks]
        result = fit_with_restarts(model, batches, validation, start, settings, folder, watching)
    return replace(result, start_weights=start_weights, preview=preview)


def set_trainable(model: keras.Model, starting_at: str | None, settings: Settings) -> None:
    """Make the layers from one on trainable, all if it is None; batch norms never, depthwise ones as the settings say."""
    kc.freeze(model)
    kc.unfreeze(model, starting_at=starting_at)
    for layer in keras_internals.sublayers(model, include_self=False):
        if isinstance(layer, keras.layers.DepthwiseConv2D) and not settings.train_depthwise:
            layer.trainable = False


def _first_trainable(head):
    if head.settings.trains_on_images:
        return None
    return head.backbone.stages[-1].name if head.settings.train == "last" else head.settings.train


def _feature_data(head: HeadFit, cache, progress):
    """The later stages, and batches of cached features to train them on."""
    settings, data = head.settings, head.data
    targets = to_one_hot(data.targets("train"), data.num_classes)
    batches = FeatureBatches(head.copies, targets, settings.batch_size, settings.seed, settings.class_balance)
    truth = to_one_hot(data.targets("validation"), data.num_classes)
    validation = FeatureBatches([head.validation_features], truth, BATCH_SIZE, settings.seed)(0)
    return _trained_part(head.partition.rest), batches, validation, head.preview


def _image_data(head: HeadFit, cache, progress):
    """The whole network, and batches of augmented images to train it on."""
    settings, data, augmentation = head.settings, head.data, augmentation_of(head.settings)
    with progress.phase("Reading larger images", len(data.indices("train"))) as advance:
        source = data.load_larger(augmentation, cache, advance)
    batches = data.augmented_batches(
        source, augmentation, settings.batch_size, settings.seed, class_balance=settings.class_balance
    )
    preview = data.preview(source, augmentation, settings.seed)
    return _trained_part(head.model), batches, data.batches("validation")(), preview


def _trained_part(model: keras.Model) -> keras.Model:
    """Another model with the same weights: optimizer, loss and metrics do not stay on the one that is exported."""
    return attach(surgery.fold_frozen(model), lambda probabilities: probabilities)
