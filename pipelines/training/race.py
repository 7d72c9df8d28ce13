"""A race of learning rates: short trainings of later stages, judged on images that they have not seen.

No rate is right for all data. Where images are few, the same trainings say whether fine-tuning helps at all.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_cnn import durable
from keras_cnn.autograph import without_autograph
from keras_cnn.training import LinearProbe
from pipelines import device
from pipelines.datasets.array_cache import digest
from pipelines.datasets.feature_batches import FeatureBatches, to_one_hot
from pipelines.datasets.image_batches import dataset_options
from pipelines.settings import Settings
from pipelines.training.decisions import Decision
from pipelines.training.feature_extractor import in_batches, inference
from pipelines.training.interpolation import COEFFICIENTS, best_coefficient, interpolate
from pipelines.training.restarts import make_optimizer
from pipelines.training.task import Task, calibrated_loss

MOST_STEPS = 40  # of one training: fewer where the job itself makes fewer


@dataclass(frozen=True)
class Fold:
    """One training of the race.

    Attributes:
        copies: Cached features of the images to train on, one array per augmented copy.
        targets: Theirs.
        probe: The linear probe that training starts from; None: the one that the network has.
        features: Cached features of the images to judge by, plain.
    """

    copies: Sequence[np.ndarray]
    targets: np.ndarray
    probe: LinearProbe | None
    features: np.ndarray


@dataclass(frozen=True)
class Race:
    """What a race found.

    Attributes:
        learning_rate: The peak rate whose network has the lowest loss on the images to judge by.
        coefficient: The share of fine-tuning in that network, as in `interpolate`.
        probabilities: What that network gives for the images to judge by, `(images, classes)`.
        losses: The lowest loss per rate.
    """

    learning_rate: float
    coefficient: float
    probabilities: np.ndarray
    losses: dict[float, float]

    def decisions(self, probe: float) -> list[Decision]:
        """The choice of the rate, if there was one; `probe` is the loss of the linear probe."""
        if len(self.losses) < 2:
            return []
        listed = ", ".join(f"{loss:.3g} at {rate:g}" for rate, loss in self.losses.items())
        reason = f"loss of trainings at each rate on images that they had not seen: {listed}; of the linear probe {probe:.3g}"
        return [Decision("learning_rate", self.learning_rate, reason)]


def run_race(
    model: keras.Model,
    rest: keras.Model,
    folds: Sequence[Fold],
    truth: np.ndarray,
    rates: Sequence[float],
    task: Task,
    settings: Settings,
    steps: int,
    folder: Path,
    progress: Callable[[int], object],
) -> Race:
    """Train at each rate on each fold, and compare the losses. The weights of `model` are as before afterwards.

    Args:
        model: Cached features -> probabilities, to train.
        rest: The same network, to compute with: it shares the weights.
        folds: The trainings.
        truth: The targets of all images to judge by, in the order of the folds.
        rates: Peak learning rates.
        task: What is learned.
        settings: Of the job.
        steps: Number of steps of each training.
        folder: Where the state of the job is: what is found is kept there.
        progress: Called with the number of steps made since the last call.
    """
    file, key = folder / "race.npz", digest(rates, steps, truth.tolist(), [len(fold.features) for fold in folds])
    judged = _read(file, key)
    if judged is None:
        judged = _judge(model, rest, folds, rates, task, settings, steps, progress)
        with durable.atomic_write(file) as stream:
            np.savez(stream, judged=judged, key=key)
    losses = np.array([[calibrated_loss(task, each, truth) for each in of_rate] for of_rate in judged])
    rate = int(losses.min(1).argmin())
    coefficient = best_coefficient(losses[rate])
    return Race(
        rates[rate],
        COEFFICIENTS[coefficient],
        np.nan_to_num(judged[rate, coefficient]),
        dict(zip(rates, losses.min(1).tolist(), strict=True)),
    )


def _judge(model, rest, folds, rates, task, settings, steps, progress):
    """Probabilities of the images to judge by, `(rates, coefficients, images, classes)`."""
    start, logits, run = model.get_weights(), model.get_layer("logits"), inference(rest)
    judged = []
    for rate in rates:
        model.compile(
            make_optimizer(model, steps, replace(settings, learning_rate=rate)),
            **task.compile_arguments(settings.label_smoothing),
            jit_compile=device.has_gpu(),
        )
        model.optimizer.build(model.trainable_variables)
        reset, of_rate = _resetting(model), []
        for fold in folds:
            model.set_weights(start)  # nothing that another fold has learned from its images
            if fold.probe is not None:
                logits.set_weights([fold.probe.kernel, fold.probe.bias])
            begin = model.get_weights()
            model.fit(_batches(fold, task, settings, steps), shuffle=False, verbose=0)
            progress(steps)
            end, of_fold = model.get_weights(), []
            for coefficient in COEFFICIENTS:
                model.set_weights(interpolate(begin, end, coefficient))
                of_fold.append(in_batches(run, fold.features))
            of_rate.append(np.array(of_fold, "float32"))
            reset()  # a resumed job, which reads what the race has found, continues with the same seeds
        judged.append(np.concatenate(of_rate, axis=1))
    model.set_weights(start)
    return np.array(judged)


def _batches(fold: Fold, task: Task, settings: Settings, steps: int) -> tf.data.Dataset:
    """So many batches, of one epoch after another."""
    targets = to_one_hot(fold.targets, task.num_classes)
    batches = FeatureBatches(fold.copies, targets, settings.batch_size, settings.seed, settings.balance)
    epochs = -(-steps // batches.steps)
    dataset = tf.data.Dataset.range(epochs).flat_map(without_autograph(batches)).take(steps)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
    return dataset.with_options(dataset_options())


def _resetting(model: keras.Model) -> Callable[[], None]:
    """A function that puts optimizer and seeds back to where they are now."""
    weights = {id(variable) for variable in model.weights}
    seeds = [variable for variable in model.variables if id(variable) not in weights]
    variables = [*model.optimizer.variables, *seeds]
    values = [variable.numpy() for variable in variables]

    def reset() -> None:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    return reset


def _read(file, key):
    """What an interrupted job has found; None where that is nothing, belongs to another race, or cannot be read."""
    try:
        with open(file, "rb") as stream, np.load(stream) as found:
            return found["judged"] if str(found["key"]) == key else None
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None
