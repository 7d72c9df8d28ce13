"""`model.fit` as a job runs it: schedule, exact resume, the best epoch kept, and clear words when training breaks down."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

import keras_cnn as kc
from pipelines import device
from pipelines.errors import TrainingError
from pipelines.keep_best import KeepBest


class StopWhenNotFinite(keras.callbacks.Callback):
    """Ends training at the step whose loss is no number any more."""

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(float((logs or {}).get("loss", 0.0))):
            rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            raise TrainingError(
                f"The loss is not a finite number any more in batch {batch + 1} of epoch {self._epoch + 1}, at a learning rate "
                f"of {rate:.2g}. Run again with --restart and a lower --learning-rate."
            )


def fit(model, batches, validation, objective, start: dict, chosen, folder, callbacks=()):
    """Train what is trainable in `model`, and put the weights of the best epoch in it.

    Args:
        model: Images or activations -> scores.
        batches: A function of epoch and step, with `steps`.
        validation: What `model.fit` takes as `validation_data`.
        objective: From `pipelines.objective`.
        start: The score of the weights that training begins with.
        chosen: `Settings`.
        folder: Where the state of the job is kept; from there it goes on if it was interrupted.
        callbacks: More Keras callbacks.

    Returns:
        The history, a dict an epoch, and the score of the best epoch.

    Raises:
        TrainingError: If the loss is no finite number, or memory does not suffice for a batch.
    """
    model.compile(
        _optimizer(model, batches.steps, chosen),
        **objective.compiled(chosen.label_smoothing),
        jit_compile=device.has_gpu(),  # on the CPU a compiled step is several times slower
    )
    averaged = kc.training.AveragedWeights() if chosen.average else None
    best = KeepBest(start, chosen.patience, averaged)
    resume = kc.training.ExactResume(folder / "checkpoints", callbacks=[best])
    try:
        history = model.fit(
            resume.data(batches),
            epochs=chosen.epochs,
            validation_data=validation,
            callbacks=[StopWhenNotFinite(), resume, *([averaged] if averaged else ()), best, *callbacks],
            shuffle=False,  # the batches come shuffled
            verbose=0,
        ).history
    except tf.errors.ResourceExhaustedError:
        raise _no_memory(chosen) from None
    epochs = [{name: float(values[epoch]) for name, values in history.items()} for epoch in range(len(history["loss"]))]
    return epochs, best.best


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
