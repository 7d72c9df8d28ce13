"""What is learned: one label per image or several. Head, loss, metrics, and which network is better."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_cnn import heads
from keras_cnn.training import MultiLabelAveragePrecision, calibration
from keras_cnn.training.metrics import average_precision
from pipelines.catalog import Catalog
from pipelines.evaluation.multi_label import MultiLabelEvaluation
from pipelines.evaluation.single_label import SingleLabelEvaluation
from pipelines.training.class_prior import Adjustment, choose_adjustment, is_uneven

Evaluation = SingleLabelEvaluation | MultiLabelEvaluation
RESAMPLES = 100  # of the bootstrap


class Task:
    """What a job learns: all that differs between one label per image and several.

    Args:
        num_classes: Number of classes.

    Attributes:
        name: As in `metrics.json`.
        primary_metric: The metric that decides which network is better, as in `metrics.json`; higher is better.
        correct: What `accuracy` is the share of, for people: "98 % of the images ...".
        errors: What the report calls errors.
        class_columns: Of the table of classes: key in `by_class` and heading.
        has_confusion_matrix: Whether each image has one true and one predicted class.
        evaluation: The class that compares probabilities with the truth.
        uniform_loss: The loss of a uniform guess, in nats.
    """

    name: str
    primary_metric: str
    correct: str
    errors: str
    class_columns: tuple[tuple[str, str], ...]
    has_confusion_matrix: bool
    evaluation: type[Evaluation]
    uniform_loss: float

    def __init__(self, num_classes: int):
        self.num_classes = num_classes

    def head(self, dropout: float) -> Callable[[Any], Any]:
        """What sits on the network: `pool`, then a layer `logits`, then probabilities."""
        raise NotImplementedError

    def compile_arguments(self, label_smoothing: float) -> dict[str, Any]:
        """Loss and metrics, for `model.compile`: `primary_metric`, and `crossentropy` without smoothing."""
        raise NotImplementedError

    def score(self, probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """`primary_metric` and `loss`, the mean cross-entropy in nats, of probabilities `(images, classes)`."""
        raise NotImplementedError

    def gain(self, probabilities: np.ndarray, others: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
        """By how much one network's `primary_metric` is higher than another's on the same images, and its standard error."""
        raise NotImplementedError

    def chance(self, training_targets: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """The score of always guessing by the class frequencies of the training images."""
        raise NotImplementedError

    def adjustment(
        self, probabilities: np.ndarray, targets: np.ndarray, training_targets: np.ndarray
    ) -> Adjustment | None:
        """The shift of the logits that evens out uneven classes; None where they are even, or there is no such shift."""
        return None


class SingleLabel(Task):
    """One label per image: softmax, cross-entropy, accuracy; targets are class numbers `(images,)`."""

    name = "single_label"
    primary_metric = "accuracy"
    correct = "are classified correctly"
    errors = "wrong predictions"
    class_columns = (("recall", "recall"), ("precision", "precision"))
    has_confusion_matrix = True
    evaluation = SingleLabelEvaluation

    def __init__(self, num_classes: int):
        super().__init__(num_classes)
        self.uniform_loss = float(np.log(num_classes))

    def head(self, dropout: float) -> Callable[[Any], Any]:
        return heads.classification(self.num_classes, dropout)

    def compile_arguments(self, label_smoothing: float) -> dict[str, Any]:
        return {
            "loss": keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing),
            "metrics": ["accuracy", _crossentropy_metric(keras.losses.categorical_crossentropy)],
        }

    def score(self, probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        likelihood = _clip_probabilities(probabilities)[np.arange(len(targets)), targets]
        accuracy = float((probabilities.argmax(1) == targets).mean())
        return {"accuracy": accuracy, "loss": float(-np.log(likelihood).mean())}

    def gain(self, probabilities: np.ndarray, others: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
        # Only images on which the two differ count, each as a step of 1 or -1. Adding 1 keeps the error above 0.
        correct, other = (each.argmax(1) == targets for each in (probabilities, others))
        differ = np.count_nonzero(correct != other)
        return float(correct.mean() - other.mean()), math.sqrt(differ + 1) / len(targets)

    def chance(self, training_targets: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        return self.score(_constant(np.bincount(training_targets, minlength=self.num_classes), targets), targets)

    def adjustment(
        self, probabilities: np.ndarray, targets: np.ndarray, training_targets: np.ndarray
    ) -> Adjustment | None:
        counts = np.bincount(training_targets, minlength=self.num_classes)
        return choose_adjustment(probabilities, targets, counts) if is_uneven(counts) else None


class MultiLabel(Task):
    """Several labels per image: a sigmoid per class, binary cross-entropy, mean average precision; targets are 0 and 1."""

    name = "multi_label"
    primary_metric = "mean_average_precision"
    correct = "have all labels correct"
    errors = "wrong labels"
    class_columns = (
        ("average_precision", "average precision"),
        ("recall", "recall"),
        ("precision", "precision"),
        ("f1", "F1"),
    )
    has_confusion_matrix = False
    evaluation = MultiLabelEvaluation
    uniform_loss = float(np.log(2))

    def head(self, dropout: float) -> Callable[[Any], Any]:
        return heads.multi_label(self.num_classes, dropout)

    def compile_arguments(self, label_smoothing: float) -> dict[str, Any]:
        return {
            "loss": keras.losses.BinaryCrossentropy(label_smoothing=label_smoothing),
            "metrics": [
                MultiLabelAveragePrecision(self.num_classes),
                _crossentropy_metric(keras.losses.binary_crossentropy),
            ],
        }

    def score(self, probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        metric = MultiLabelAveragePrecision(self.num_classes)  # as in `compile_arguments`
        metric.update_state(targets, probabilities)
        clipped = _clip_probabilities(probabilities)
        loss = -np.log(np.where(targets, clipped, 1 - clipped)).mean()
        return {self.primary_metric: float(metric.result()), "loss": float(loss)}

    def gain(self, probabilities: np.ndarray, others: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
        # The bootstrap: images drawn with replacement.
        drawn = np.random.default_rng(0).integers(len(targets), size=(RESAMPLES, len(targets)))
        resamples = [rows for rows in drawn if targets[rows].any()]
        gains = [_mean_precision_gain(probabilities[rows], others[rows], targets[rows]) for rows in resamples]
        return _mean_precision_gain(probabilities, others, targets), float(np.std(gains))

    def chance(self, training_targets: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        frequencies = training_targets.mean(0)
        return self.score(np.broadcast_to(frequencies, targets.shape).astype("float32"), targets)


TASKS = {task.name: task for task in (SingleLabel, MultiLabel)}


def _mean_precision_gain(probabilities, others, targets):
    one, other = (np.nanmean(average_precision(each, targets)) for each in (probabilities, others))
    return float(one - other)


def _clip_probabilities(probabilities):
    """Keeps logarithms finite. The start is scored in NumPy and each epoch by Keras: both must clip alike to be comparable."""
    smallest = np.float32(keras.config.epsilon())
    return np.clip(probabilities, smallest, 1 - smallest)


def _crossentropy_metric(crossentropy):
    """A metric `crossentropy` of clipped probabilities; Keras' own uses the logits if it can, and does not clip."""

    def clipped(truth, probabilities):
        smallest = keras.config.epsilon()
        return crossentropy(truth, keras.ops.clip(probabilities, smallest, 1 - smallest))

    return keras.metrics.MeanMetricWrapper(clipped, name="crossentropy")


def _constant(counts, targets):
    """The class frequencies as the probabilities of every image."""
    return np.broadcast_to(counts / counts.sum(), (len(targets), len(counts)))


def task_for(catalog: Catalog) -> Task:
    """The task of a `Catalog`."""
    return (MultiLabel if catalog.multi_label else SingleLabel)(len(catalog.classes))


def is_clear(gain: float, standard_error: float) -> bool:
    """Whether `Task.gain` is more than a standard error.

    It takes that much to prefer a network that learned more over one that learned less: the one-standard-error rule
    (Breiman, Friedman, Olshen & Stone, 1984, *Classification and Regression Trees*, section 3.4.3).
    """
    return gain > standard_error


def calibrated_loss(task: Task, probabilities: np.ndarray, targets: np.ndarray) -> float:
    """The cross-entropy in nats after division of the logits by the best temperature: confidence does not count, order does.

    Infinite if a probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        return math.inf
    temperature = calibration.fit_temperature(probabilities, targets, min_examples=1)
    calibrated = calibration.calibrated(probabilities, temperature, independent=targets.ndim == 2)
    return task.score(calibrated, targets)["loss"]


def sort_key(score: dict[str, float]) -> tuple[float, float]:
    """Sorts scores from worse to better: by the primary metric, then by a lower loss; a loss that is not finite is worst."""
    if not math.isfinite(score["loss"]):
        return -math.inf, -math.inf
    return score[primary_metric(score)], -score["loss"]


def primary_metric(score: dict[str, float]) -> str:
    """The name of the metric in a score beside the loss."""
    return next(name for name in score if name != "loss")
