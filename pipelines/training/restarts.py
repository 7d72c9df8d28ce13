"""`model.fit` with a schedule, exact resume, the weights of the best epoch, and restarts where it diverges."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_cnn as kc
from pipelines import device
from pipelines.datasets.feature_batches import FeatureBatches
from pipelines.datasets.image_batches import ImageBatches
from pipelines.errors import TrainingError
from pipelines.settings import Settings
from pipelines.training.best_weights import RestoreBestWeights
from pipelines.training.deadline import Deadline
from pipelines.training.divergence import MOST_RESTARTS, RATE_FACTOR, DivergenceGuard, Restart
from pipelines.training.task import Task, sort_key


@dataclass(frozen=True)
class Start:
    """What training starts from.

    Attributes:
        task: What is learned.
        score: The validation score of the weights that training starts with.
        chance: That of always guessing by the class frequencies.
        validation_images: Their number.
        report: Called with a sentence that a person should read at once.
        settled: As in `pipelines.training.divergence.DivergenceGuard`.
        keep_last: As in `pipelines.training.best_weights.RestoreBestWeights`.
        deadline: When training must end, in seconds of `time.monotonic`; None: never.
    """

    task: Task
    score: dict
    chance: dict
    validation_images: int
    report: Callable[[str], None] = print
    settled: int = 0
    keep_last: bool = False
    deadline: float | None = None


@dataclass(frozen=True)
class FitResult:
    """What training gave.

    Attributes:
        history: A dict per epoch, in the order in which they ran.
        best: The validation score of the best epoch.
        improved: Whether an epoch was better than the start; otherwise the weights are those of the start again.
        restarts: What divergence there was, `pipelines.training.divergence.Restart`s.
        start_weights: The weights of the classifier before.
        preview: A figure of the augmentation, uint8 `(height, width, 3)`, or None.
        race: What the race of learning rates found, or None.
        out_of_time: Whether the deadline ended training.
    """

    history: list[dict]
    best: dict
    improved: bool = True
    restarts: tuple[Restart, ...] = ()
    start_weights: Sequence[np.ndarray] = ()
    preview: np.ndarray | None = None
    race: Any = None
    out_of_time: bool = False


def fit_with_restarts(
    model: keras.Model,
    batches: ImageBatches | FeatureBatches,
    validation: Any,
    start: Start,
    settings: Settings,
    folder: Path,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> FitResult:
    """Train what is trainable in `model`, and put the weights of the best epoch in it.

    Where training diverges, it restarts from the best weights so far with a quarter of the learning rate, at most twice. Each
    try is a `model.fit` with its own checkpoints: a resumed job finds the tries that are over complete.

    Args:
        model: Images or cached features -> probabilities.
        batches: A function of epoch and step, with `steps`.
        validation: What `model.fit` takes as `validation_data`.
        start: What training starts from.
        settings: Epochs, learning rate and the like; the learning rate is not None.
        folder: Where the state of the job is; an interrupted job resumes from there.
        callbacks: More Keras callbacks.

    Raises:
        TrainingError: If memory does not suffice for a batch.
    """
    assert settings.learning_rate is not None  # a race has decided
    first = start.score
    history: list[dict] = []
    restarts: list[Restart] = []
    scores: list[dict] = []
    while True:
        done = max(0, len(history) - len(restarts))  # an epoch that diverged does not count
        rate = settings.learning_rate * RATE_FACTOR ** len(restarts)
        now = replace(settings, learning_rate=rate, epochs=max(1, settings.epochs - done))
        place = folder / f"restart-{len(restarts)}" if restarts else folder
        epochs, best, reason = _fit_once(model, batches, validation, start, now, place, callbacks)
        history += epochs
        scores.append(best.best)
        start = replace(start, score=best.restored)
        if reason is None:
            break
        following = rate * RATE_FACTOR if len(restarts) < MOST_RESTARTS else None
        restarts.append(Restart(len(history), reason, rate, following))
        start.report(restarts[-1].to_text())
        if following is None:
            break
    # A job that was killed after its deadline resumes at the end of training: only its missing epochs tell.
    stopped_early = reason is None and settings.patience == 0 and len(epochs) < now.epochs
    out_of_time = start.deadline is not None and stopped_early
    return FitResult(
        history, max(scores, key=sort_key), best.restored != first, tuple(restarts), out_of_time=out_of_time
    )


def _fit_once(model, batches, validation, start, settings, folder, callbacks):
    """One `model.fit`, to its end or until it diverges: history, `RestoreBestWeights`, the reason if it diverged."""
    model.compile(
        make_optimizer(model, settings.epochs * batches.steps, settings),
        **start.task.compile_arguments(settings.label_smoothing),
        jit_compile=device.has_gpu(),  # on the CPU a compiled step is several times slower
    )
    averaged = kc.training.EMAWeights() if settings.ema_momentum else None
    guard = DivergenceGuard(start.score, start.chance, start.task.uniform_loss, start.validation_images, start.settled)
    best = RestoreBestWeights(start.score, settings.patience, averaged, guard, start.keep_last)
    resume = kc.training.ExactResume(folder / "checkpoints", callbacks=[best, guard])
    deadline = [] if start.deadline is None else [Deadline(start.deadline, resume)]
    try:
        history = model.fit(
            resume.data(batches),
            epochs=settings.epochs,
            validation_data=validation,
            callbacks=[resume, guard, *([averaged] if averaged else ()), best, *deadline, *callbacks],
            shuffle=False,  # the batches come shuffled
            verbose=0,
        ).history
    except tf.errors.ResourceExhaustedError:
        raise _no_memory(settings) from None
    epochs = [{name: float(values[epoch]) for name, values in history.items()} for epoch in range(len(history["loss"]))]
    return epochs, best, guard.reason


def _no_memory(settings):
    """An error whose remedy is about the same update from smaller batches, as long as there are smaller ones."""
    half = max(1, settings.batch_size // 2)
    steps = settings.gradient_accumulation_steps * math.ceil(settings.batch_size / half)
    remedy = (
        f"--batch-size {half} --gradient-accumulation-steps {steps}"
        if settings.batch_size > 1
        else "a smaller --size, or --train last"
    )
    images = "image" if settings.batch_size == 1 else "images"
    return TrainingError(
        f"A batch of {settings.batch_size} {images} needs more memory than there is. Run again with --restart and {remedy}."
    )


def make_optimizer(model: keras.Model, steps: int, settings: Settings) -> keras.optimizers.Optimizer:
    """The optimizer that settings describe, for so many steps in all."""
    warm_up = min(round(settings.warmup_fraction * steps), steps - 1)  # Keras wants a step at least in which it falls
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm_up, warmup_target=settings.learning_rate, warmup_steps=warm_up
    )
    options = {
        "weight_decay": settings.weight_decay,
        "global_clipnorm": settings.global_clipnorm or None,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps
        if settings.gradient_accumulation_steps > 1
        else None,
        "use_ema": settings.ema_momentum > 0,
        # Keras averages after each step, also where the weights wait for an update.
        "ema_momentum": settings.ema_momentum ** (1 / settings.gradient_accumulation_steps),
    }
    if settings.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, **options)
    else:
        optimizer = keras.optimizers.AdamW(rate, **options)
    if settings.layer_decay < 1:
        return kc.training.layerwise_optimizer(optimizer, model, settings.layer_decay)
    return optimizer
