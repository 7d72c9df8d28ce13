"""`model.fit` as a job runs it: schedule, exact resume, the best epoch kept, restarts where it diverges."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import keras
import tensorflow as tf

import keras_cnn as kc
from pipelines import device
from pipelines.errors import TrainingError
from pipelines.training.best_weights import KeepBest
from pipelines.training.divergence import MOST_RESTARTS, RATE_FACTOR, DivergenceGuard, Restart
from pipelines.training.task import OneLabel, SeveralLabels, quality


@dataclass(frozen=True)
class Task:
    """What training starts from.

    Attributes:
        objective: From `pipelines.training.task`.
        start: The validation score of the weights that training begins with.
        chance: That of always guessing by the class frequencies.
        examples: Number of validation images.
        report: Called with a sentence that a person should read at once.
    """

    objective: OneLabel | SeveralLabels
    start: dict
    chance: dict
    examples: int
    report: Callable[[str], None] = print


@dataclass(frozen=True)
class Fitted:
    """What `fit` gave.

    Attributes:
        history: A dict per epoch, in the order in which they ran.
        best: The validation score of the best epoch.
        restarts: What divergence there was, `pipelines.training.divergence.Restart`s.
    """

    history: list[dict]
    best: dict
    restarts: tuple[Restart, ...] = ()


def fit(model, batches, validation, task: Task, chosen, folder, callbacks=()) -> Fitted:
    """Train what is trainable in `model`, and put the weights of the best epoch in it.

    Where training diverges, it restarts from the best weights so far with a quarter of the learning rate, at most twice. Each
    try is a `fit` of its own with checkpoints of its own: one that is over is found complete when the job is resumed.

    Args:
        model: Images or activations -> scores.
        batches: A function of epoch and step, with `steps`.
        validation: What `model.fit` takes as `validation_data`.
        task: What is learned, and from what score on.
        chosen: `Settings`.
        folder: Where the state of the job is kept; it resumes from there if it was interrupted.
        callbacks: More Keras callbacks.

    Returns:
        `Fitted`.

    Raises:
        TrainingError: If memory does not suffice for a batch.
    """
    history, restarts, scores = [], [], []
    while True:
        done = max(0, len(history) - len(restarts))  # an epoch that diverged does not count
        rate = chosen.learning_rate * RATE_FACTOR ** len(restarts)
        now = replace(chosen, learning_rate=rate, epochs=max(1, chosen.epochs - done))
        place = folder / f"restart-{len(restarts)}" if restarts else folder
        epochs, best, reason = _fit_once(model, batches, validation, task, now, place, callbacks)
        history += epochs
        scores.append(best.best)
        task = replace(task, start=best.kept)
        if reason is None:
            break
        following = rate * RATE_FACTOR if len(restarts) < MOST_RESTARTS else None
        restarts.append(Restart(len(history), reason, rate, following))
        task.report(restarts[-1].to_text())
        if following is None:
            break
    return Fitted(history, max(scores, key=quality), tuple(restarts))


def _fit_once(model, batches, validation, task, chosen, folder, callbacks):
    """One `model.fit` to its end, or to where it diverges: the history, the `KeepBest`, and the reason if it diverged."""
    model.compile(
        _optimizer(model, batches.steps, chosen),
        **task.objective.compiled(chosen.label_smoothing),
        jit_compile=device.has_gpu(),  # on the CPU a compiled step is several times slower
    )
    averaged = kc.training.EMAWeights() if chosen.average else None
    best = KeepBest(task.start, chosen.patience, averaged)
    guard = DivergenceGuard(task.start, task.chance, task.objective.uniform_loss, task.examples)
    resume = kc.training.ExactResume(folder / "checkpoints", callbacks=[best, guard])
    try:
        history = model.fit(
            resume.data(batches),
            epochs=chosen.epochs,
            validation_data=validation,
            callbacks=[resume, guard, *([averaged] if averaged else ()), best, *callbacks],
            shuffle=False,  # the batches come shuffled
            verbose=0,
        ).history
    except tf.errors.ResourceExhaustedError:
        raise _no_memory(chosen) from None
    epochs = [{name: float(values[epoch]) for name, values in history.items()} for epoch in range(len(history["loss"]))]
    return epochs, best, guard.reason


def _no_memory(chosen):
    """An error whose remedy is about the same update from smaller batches, as long as there are smaller ones."""
    half = max(1, chosen.batch_size // 2)
    steps = chosen.accumulate * math.ceil(chosen.batch_size / half)
    remedy = (
        f"--batch-size {half} --accumulate {steps}" if chosen.batch_size > 1 else "a smaller --size, or --train last"
    )
    images = "image" if chosen.batch_size == 1 else "images"
    return TrainingError(
        f"A batch of {chosen.batch_size} {images} needs more memory than there is. Run again with --restart and {remedy}."
    )


def _optimizer(model, steps, chosen):
    total = chosen.epochs * steps
    warm_up = min(round(chosen.warm_up * total), total - 1)  # Keras wants a step at least in which it falls
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, total - warm_up, warmup_target=chosen.learning_rate, warmup_steps=warm_up
    )
    options = {
        "weight_decay": chosen.weight_decay,
        "global_clipnorm": chosen.clip_norm or None,
        "gradient_accumulation_steps": chosen.accumulate if chosen.accumulate > 1 else None,
        "use_ema": chosen.average > 0,
        # Keras averages after each step, also where the weights wait for an update.
        "ema_momentum": chosen.average ** (1 / chosen.accumulate),
    }
    if chosen.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, **options)
    else:
        optimizer = keras.optimizers.AdamW(rate, **options)
    if chosen.layer_decay < 1:
        return kc.training.layerwise_optimizer(optimizer, model, chosen.layer_decay)
    return optimizer
