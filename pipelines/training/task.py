"""What one label an image and several labels an image differ in: the head, the loss, and which network is better."""

from __future__ import annotations

import math

import keras
import numpy as np

from keras_cnn import heads
from keras_cnn.training import MultiLabelAveragePrecision
from keras_cnn.training.metrics import average_precision
from pipelines.evaluation.multi_label import MultiLabelEvaluation
from pipelines.evaluation.single_label import Evaluation

RESAMPLES = 100  # of the bootstrap


class OneLabel:
    """A softmax over the classes, cross-entropy, accuracy; targets are class numbers `(images,)`.

    Args:
        classes: Number of classes.

    Attributes:
        uniform_loss: The loss of a uniform guess, in nats.
    """

    evaluation = Evaluation

    def __init__(self, classes: int):
        self.classes, self.uniform_loss = classes, float(np.log(classes))

    def head(self, dropout: float):
        """What sits on the network."""
        return heads.classification(self.classes, dropout)

    def compiled(self, label_smoothing: float) -> dict:
        """Loss and metrics, for `model.compile`. What says which epoch is better is called as in `score`."""
        return {
            "loss": keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing),
            "metrics": ["accuracy", keras.metrics.CategoricalCrossentropy(name="crossentropy")],
        }

    def score(self, scores, targets) -> dict:
        """Accuracy and loss (cross-entropy in nats) of probabilities `(images, classes)`."""
        likelihood = scores[np.arange(len(targets)), targets]
        accuracy = float((scores.argmax(1) == targets).mean())
        return {"accuracy": accuracy, "loss": float(-np.log(likelihood + 1e-12).mean())}

    def standard_error(self, scores, targets) -> float:
        """Of the accuracy. One more right and one more wrong are counted, so that it is not 0 where all are right."""
        right, count = (scores.argmax(1) == targets).sum() + 1, len(targets) + 2
        return math.sqrt(right * (count - right) / count**2 / len(targets))

    def clearly_better(self, score: dict, start: dict, scores, targets) -> bool:
        """Whether a network is better by more than a standard error than the one it began as.

        So much is needed to prefer what has learned more to what has learned less: the one-standard-error rule (Breiman,
        Friedman, Olshen & Stone, 1984, *Classification and Regression Trees*, section 3.4.3).

        Args:
            score: Of that network on the validation images.
            start: The same of the one it began as.
            scores: Probabilities of the one it began as, `(images, classes)`.
            targets: Of the validation images.
        """
        name = measure(start)
        finite = math.isfinite(score["loss"])
        return finite and score[name] - start[name] > self.standard_error(scores, targets)

    def chance(self, training_targets, targets) -> dict:
        """The score of always guessing by the class frequencies of the training images."""
        return self.score(_constant(np.bincount(training_targets, minlength=self.classes), targets), targets)


class SeveralLabels:
    """A sigmoid for each class, binary cross-entropy, mean average precision; targets are 0 and 1, `(images, classes)`.

    Args:
        classes: Number of classes.

    Attributes:
        uniform_loss: As in `OneLabel`.
    """

    evaluation = MultiLabelEvaluation

    def __init__(self, classes: int):
        self.classes, self.uniform_loss = classes, float(np.log(2))

    def head(self, dropout: float):
        """As in `OneLabel`, and so is `compiled`."""
        return heads.multi_label(self.classes, dropout)

    def compiled(self, label_smoothing: float) -> dict:
        return {
            "loss": keras.losses.BinaryCrossentropy(label_smoothing=label_smoothing),
            "metrics": [
                MultiLabelAveragePrecision(self.classes),
                keras.metrics.BinaryCrossentropy(name="crossentropy"),
            ],
        }

    def score(self, scores, targets) -> dict:
        """Mean average precision as the metric of `compiled` has it, and loss, the mean over images and classes."""
        ranking = MultiLabelAveragePrecision(self.classes)
        ranking.update_state(targets, scores)
        loss = -np.log(np.where(targets, scores, 1 - scores) + 1e-12).mean()
        return {ranking.name: float(ranking.result()), "loss": float(loss)}

    def standard_error(self, scores, targets) -> float:
        """Of the mean average precision, by the bootstrap: images drawn with replacement."""
        random = np.random.default_rng(0)
        drawn = random.integers(len(targets), size=(RESAMPLES, len(targets)))
        values = [np.nanmean(average_precision(scores[rows], targets[rows])) for rows in drawn if targets[rows].any()]
        return float(np.std(values))

    clearly_better = OneLabel.clearly_better

    def chance(self, training_targets, targets) -> dict:
        """As in `OneLabel`: every image gets each label with its frequency."""
        frequencies = training_targets.mean(0)
        return self.score(np.broadcast_to(frequencies, targets.shape).astype("float32"), targets)


def _constant(counts, targets):
    """The class frequencies as the probabilities of every image."""
    return np.broadcast_to(counts / counts.sum(), (len(targets), len(counts)))


def objective_of(catalog):
    """That of a `Catalog`."""
    return (SeveralLabels if catalog.multi_label else OneLabel)(len(catalog.classes))


def quality(score: dict) -> tuple[float, float]:
    """What "better on validation" means, in all of a job: higher accuracy or mean average precision, then a lower loss.

    A network whose loss is NaN or infinite is worse than any other, whatever class it happens to name.
    """
    if not math.isfinite(score["loss"]):
        return -math.inf, -math.inf
    return score[measure(score)], -score["loss"]


def measure(score: dict) -> str:
    """What a score tells besides the loss: "accuracy" or "mean_average_precision"."""
    return next(name for name in score if name != "loss")
