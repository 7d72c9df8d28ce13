"""Fine-tuning: from a fitted head on, train the last stages or the whole network."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

import keras_cnn as kc
from keras_cnn import Backbone, keras_internals, surgery
from keras_cnn.builder import attach
from pipelines.datasets.array_cache import ArrayCache
from pipelines.datasets.feature_batches import FeatureBatches, to_one_hot
from pipelines.defaults import MIN_STEPS, RATES
from pipelines.progress import EpochBar, Progress
from pipelines.settings import Settings
from pipelines.training.head import HeadFit, augmentation_of
from pipelines.training.race import MOST_STEPS, Fold, Race, run_race
from pipelines.training.restarts import FitResult, Start, fit_with_restarts
from pipelines.training.split_images import BATCH_SIZE, naming_files


def fit(
    head: HeadFit,
    folder: Path,
    cache: ArrayCache,
    progress: Progress,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    deadline: float | None = None,
) -> FitResult:
    """Train a classifier in place, from its linear probe on; it ends with the weights of its best epoch.

    Args:
        head: Its head, fitted.
        folder: Where the state of the job is; an interrupted training resumes from there.
        cache: Where decoded images are cached.
        progress: Shows how far it is.
        callbacks: Keras callbacks.
        deadline: When training must end, in seconds of `time.monotonic`; None: never.

    Raises:
        FrozenWeightsError: If a frozen weight has changed.
        TrainingError: If memory does not suffice for a batch.
    """
    settings, task, data = head.settings, head.task, head.data
    start_weights, outcome = head.model.get_weights(), None
    set_trainable(head.model, first_trainable(head.backbone, settings), settings)
    model, batches, validation, preview = (_image_data if settings.trains_on_images else _feature_data)(
        head, cache, progress
    )
    truth = data.targets("validation")
    with (
        kc.check_frozen(head.model),
        kc.training.mixed_precision(head.backbone.model) if settings.mixed_precision else nullcontext(),
    ):
        steps = settings.epochs * batches.steps
        if settings.learning_rate is None or head.fold_of is not None:
            outcome = _race(head, model, min(MOST_STEPS, steps) if head.fold_of is None else steps, folder, progress)
            settings = replace(settings, learning_rate=outcome.learning_rate)
        with (
            progress.phase("Fine-tuning", steps) as advance,
            naming_files(getattr(batches, "source", None)),
        ):
            chance = task.chance(data.targets("train"), truth)
            learned = head.fold_of is not None
            # Cross-validation has judged whole trainings at this rate, the race the beginning of one.
            settled = steps + 1 if learned else MIN_STEPS if outcome else 0
            start = Start(task, head.score, chance, len(truth), progress.report, settled, learned, deadline)
            # The validation images say nothing where the network learns from them.
            watching = [EpochBar(advance, None if learned else task.primary_metric), *callbacks]
            result = fit_with_restarts(model, batches, validation, start, settings, folder, watching)
    if learned:
        history = [{name: value for name, value in row.items() if "val_" not in name} for row in result.history]
        # Cross-validation has judged trainings that were not cut short.
        result = replace(result, history=history, improved=result.improved and not result.out_of_time)
    return replace(result, start_weights=start_weights, preview=preview, race=outcome)


def _race(head: HeadFit, model: keras.Model, steps: int, folder: Path, progress: Progress) -> Race:
    """The learning rate that is best on images that the network has not seen, of the given one or of `RATES`."""
    given = head.settings.learning_rate
    rates = RATES if given is None else (given,)
    if head.fold_of is None:
        folds = [Fold(head.copies, head.targets, None, head.validation_features)]
        order = np.arange(len(head.truth))
    else:
        folds = [_fold(head, number) for number in range(len(head.fold_probes))]
        order = np.argsort(head.fold_of, kind="stable")
    with progress.phase("Choosing the learning rate", len(rates) * len(folds) * steps) as advance:
        found = run_race(
            model,
            head.partition.rest,
            folds,
            head.truth[order],
            rates,
            head.task,
            head.settings,
            steps,
            folder,
            advance,
        )
    probabilities = np.empty_like(found.probabilities)
    probabilities[order] = found.probabilities
    return replace(found, probabilities=probabilities)


def _fold(head: HeadFit, number: int) -> Fold:
    assert head.fold_of is not None
    learned, judged = head.fold_of != number, head.fold_of == number
    copies = [features[learned] for features in head.copies]
    return Fold(copies, head.targets[learned], head.fold_probes[number], head.copies[0][judged])


def set_trainable(model: keras.Model, starting_at: str | None, settings: Settings) -> None:
    """Make the layers from one on trainable, all if it is None; batch norms never, depthwise ones as the settings say."""
    kc.freeze(model)
    kc.unfreeze(model, starting_at=starting_at)
    for layer in keras_internals.sublayers(model, include_self=False):
        if isinstance(layer, keras.layers.DepthwiseConv2D) and not settings.train_depthwise:
            layer.trainable = False


def first_trainable(backbone: Backbone, settings: Settings) -> str | None:
    """The name of the first layer that is trained; None: all are."""
    if settings.trains_on_images:
        return None
    return backbone.stages[-1].name if settings.train == "last" else settings.train


def _feature_data(head: HeadFit, cache, progress):
    """The later stages, and batches of cached features to train them on."""
    settings, data = head.settings, head.data
    targets = to_one_hot(head.targets, data.num_classes)
    batches = FeatureBatches(head.copies, targets, settings.batch_size, settings.seed, settings.balance)
    truth = to_one_hot(data.targets("validation"), data.num_classes)
    validation = FeatureBatches([head.validation_features], truth, BATCH_SIZE, settings.seed)(0)
    return trained_part(head.partition.rest), batches, validation, head.preview


def _image_data(head: HeadFit, cache, progress):
    """The whole network, and batches of augmented images to train it on."""
    settings, data, augmentation = head.settings, head.data, augmentation_of(head.settings)
    with progress.phase("Reading larger images", len(data.indices("train"))) as advance:
        source = data.load_larger(augmentation, cache, advance)
    batches = data.augmented_batches(
        source, augmentation, settings.batch_size, settings.seed, class_balance=settings.balance
    )
    preview = data.preview(source, augmentation, settings.seed)
    return trained_part(head.model), batches, data.batches("validation")(), preview


def trained_part(model: keras.Model) -> keras.Model:
    """Another model with the same weights: optimizer, loss and metrics do not stay on the one that is exported."""
    return attach(surgery.fold_frozen(model), lambda probabilities: probabilities)
