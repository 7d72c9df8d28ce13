"""How good a multi-label classifier is: how well its probabilities rank, and which of its labels are correct."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_cnn.training.metrics import average_precision
from pipelines.evaluation.single_label import wilson_interval

THRESHOLD = 0.5  # a label is predicted from this probability on


@dataclass(frozen=True)
class MultiLabelEvaluation:
    """Probabilities compared with the true labels. Names are as in `SingleLabelEvaluation` where the meaning is the same.

    Attributes:
        probabilities: `(examples, classes)`, independent of each other.
        targets: `(examples, classes)` of 0 and 1.
        classes: Names, in order.
    """

    probabilities: np.ndarray
    targets: np.ndarray
    classes: tuple[str, ...]

    @property
    def predicted(self) -> np.ndarray:
        """`(examples, classes)` of booleans: labels with a probability of 1/2 or more."""
        return self.probabilities >= THRESHOLD

    @property
    def accuracy(self) -> float:
        """Share of examples whose labels are all correct: each true label is predicted, and no other."""
        return float(self._all_correct().mean())

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the accuracy."""
        return wilson_interval(int(self._all_correct().sum()), len(self.targets))

    @property
    def mean_average_precision(self) -> float | None:
        """The mean of the average precision over all classes that have examples; None if no class has any."""
        known = [row["average_precision"] for row in self.by_class() if row["images"]]
        return float(np.mean(known)) if known else None

    @property
    def num_errors(self) -> int:
        """Number of wrong labels; each class of each example counts."""
        return int((self.predicted != self.targets).sum())

    def metrics(self) -> dict:
        """The metrics over all examples, as plain values."""
        return {
            "accuracy": self.accuracy,
            "interval_95": self.interval,
            "mean_average_precision": self.mean_average_precision,
        }

    def by_class(self) -> list[dict]:
        """For each class its name, number of examples, average precision, recall, precision and F1.

        None if there is nothing to divide by. F1 is 2 · correct / (examples of the class + predictions of the class).
        """
        examples, predictions = self.targets.sum(0), self.predicted.sum(0)
        correct = (self.predicted & (self.targets > 0)).sum(0)
        ranking = average_precision(self.probabilities, self.targets)
        return [
            {
                "class": name,
                "images": int(examples[k]),
                "average_precision": float(ranking[k]) if examples[k] else None,
                "recall": float(correct[k] / examples[k]) if examples[k] else None,
                "precision": float(correct[k] / predictions[k]) if predictions[k] else None,
                "f1": float(2 * correct[k] / (examples[k] + predictions[k])) if examples[k] + predictions[k] else None,
            }
            for k, name in enumerate(self.classes)
        ]

    def most_confident_errors(self, limit: int = 24) -> list[tuple[int, int]]:
        """Wrong labels as (index of the example, class number), the most confident first."""
        examples, classes = np.nonzero(self.predicted != self.targets)
        order = np.argsort(-np.abs(self.probabilities[examples, classes] - THRESHOLD), kind="stable")[:limit]
        return [(int(examples[k]), int(classes[k])) for k in order]

    def true_label(self, index: int) -> str:
        """The names of the true labels of an example."""
        return ", ".join(self.classes[k] for k in np.flatnonzero(self.targets[index])) or "none of them"

    def _all_correct(self) -> np.ndarray:
        return (self.predicted == self.targets).all(1)
