"""How good a classifier of several labels an image is: how it ranks, and which of its decisions are right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_cnn.training.metrics import average_precision
from pipelines.evaluation.single_label import wilson_interval

DECISION = 0.5  # the probability from which on a label is given


@dataclass(frozen=True)
class MultiLabelEvaluation:
    """Scores against truth; what it shares with `Evaluation` has the same names.

    Attributes:
        scores: `(examples, classes)`, independent probabilities.
        targets: `(examples, classes)` of 0 and 1.
        classes: Names, in order.
    """

    scores: np.ndarray
    targets: np.ndarray
    classes: tuple[str, ...]

    @property
    def predicted(self) -> np.ndarray:
        """`(examples, classes)` of booleans: the labels that are given, those of probability 1/2 or more."""
        return self.scores >= DECISION

    @property
    def accuracy(self) -> float:
        """Share of examples whose labels are all right: each one given, and no other."""
        return float(self._right().mean())

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        return wilson_interval(int(self._right().sum()), len(self.targets))

    @property
    def mean_average_precision(self) -> float | None:
        """The mean of the classes' average precision, those that no example has left out; None if none has any."""
        known = [row["average_precision"] for row in self.by_class() if row["images"]]
        return float(np.mean(known)) if known else None

    @property
    def wrong(self) -> int:
        """Number of decisions, one for each class of each example, that are wrong."""
        return int((self.predicted != self.targets).sum())

    def figures(self) -> dict:
        """The figures of the whole, as plain values."""
        return {
            "accuracy": self.accuracy,
            "interval_95": self.interval,
            "mean_average_precision": self.mean_average_precision,
        }

    def by_class(self) -> list[dict]:
        """For each class its name, number of examples, average precision; recall, precision and F1 of the labels given.

        None where there is nothing to divide by. F1 is 2 · right / (examples of the class + examples given its label).
        """
        truth, given = self.targets.sum(0), self.predicted.sum(0)
        right, ranked = (self.predicted & (self.targets > 0)).sum(0), average_precision(self.scores, self.targets)
        return [
            {
                "class": name,
                "images": int(truth[k]),
                "average_precision": float(ranked[k]) if truth[k] else None,
                "recall": float(right[k] / truth[k]) if truth[k] else None,
                "precision": float(right[k] / given[k]) if given[k] else None,
                "f1": float(2 * right[k] / (truth[k] + given[k])) if truth[k] + given[k] else None,
            }
            for k, name in enumerate(self.classes)
        ]

    def worst_mistakes(self, most: int = 24) -> list[tuple[int, int]]:
        """Wrong decisions as (position of the example, class number), the surest first."""
        examples, classes = np.nonzero(self.predicted != self.targets)
        order = np.argsort(-np.abs(self.scores[examples, classes] - DECISION), kind="stable")[:most]
        return [(int(examples[k]), int(classes[k])) for k in order]

    def truth(self, position: int) -> str:
        """The labels of an example, in words."""
        return ", ".join(self.classes[k] for k in np.flatnonzero(self.targets[position])) or "none of them"

    def _right(self):
        return (self.predicted == self.targets).all(1)
