"""How good a classifier is: accuracy with its uncertainty, the confusion matrix, each class, the worst mistakes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NORMAL_95 = 1.959964  # quantile 0.975 of the normal distribution


@dataclass(frozen=True)
class Evaluation:
    """Scores against truth.

    Attributes:
        scores: `(examples, classes)`, each row sums to 1.
        targets: `(examples,)`, class numbers.
        classes: Names, in order.
    """

    scores: np.ndarray
    targets: np.ndarray
    classes: tuple[str, ...]

    @property
    def predicted(self) -> np.ndarray:
        """The class number with the highest score, for each example."""
        return self.scores.argmax(1)

    @property
    def accuracy(self) -> float:
        """Share of examples whose best class is the true one."""
        return float((self.predicted == self.targets).mean())

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        return wilson_interval(int((self.predicted == self.targets).sum()), len(self.targets))

    @property
    def wrong(self) -> int:
        """Number of examples whose best class is not the true one."""
        return int((self.predicted != self.targets).sum())

    def figures(self) -> dict:
        """The figures of the whole, as plain values."""
        return {"accuracy": self.accuracy, "interval_95": self.interval}

    def confusion(self) -> np.ndarray:
        """`(classes, classes)` counts: rows are the truth, columns the prediction."""
        matrix = np.zeros((len(self.classes),) * 2, int)
        np.add.at(matrix, (self.targets, self.predicted), 1)
        return matrix

    def by_class(self) -> list[dict]:
        """For each class its name, number of examples, recall and precision (None where there is nothing to divide by)."""
        matrix = self.confusion()
        truth, predicted, right = matrix.sum(1), matrix.sum(0), matrix.diagonal()
        return [
            {
                "class": name,
                "images": int(truth[k]),
                "recall": float(right[k] / truth[k]) if truth[k] else None,
                "precision": float(right[k] / predicted[k]) if predicted[k] else None,
            }
            for k, name in enumerate(self.classes)
        ]

    def worst_mistakes(self, most: int = 24) -> list[tuple[int, int]]:
        """Wrongly classified examples as (position, number of the class that it was taken for), the surest first."""
        wrong = np.flatnonzero(self.predicted != self.targets)
        order = np.argsort(-self.scores[wrong].max(1), kind="stable")[:most]
        return [(int(position), int(self.predicted[position])) for position in wrong[order]]

    def truth(self, position: int) -> str:
        """The class of an example, in words."""
        return self.classes[self.targets[position]]


def wilson_interval(right: int, examples: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson, 1927, JASA 22:209-212), which stays sensible near 0 and 1.

    Example:
        >>> wilson_interval(0, 10)
        (0.0, 0.2775...)
    """
    z2 = NORMAL_95**2
    share = right / examples
    centre = (share + z2 / (2 * examples)) / (1 + z2 / examples)
    half = NORMAL_95 / (1 + z2 / examples) * np.sqrt(share * (1 - share) / examples + z2 / (4 * examples**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
