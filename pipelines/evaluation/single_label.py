"""How good a classifier is: accuracy with its uncertainty, confusion matrix, precision and recall per class, worst errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NORMAL_95 = 1.959964  # quantile 0.975 of the normal distribution


@dataclass(frozen=True)
class SingleLabelEvaluation:
    """Probabilities compared with the true classes.

    Attributes:
        probabilities: `(examples, classes)`, each row sums to 1.
        targets: `(examples,)`, class numbers.
        classes: Names, in order.
    """

    probabilities: np.ndarray
    targets: np.ndarray
    classes: tuple[str, ...]

    @property
    def predicted(self) -> np.ndarray:
        """`(examples,)`: the number of the most probable class."""
        return self.probabilities.argmax(1)

    @property
    def accuracy(self) -> float:
        """Share of examples whose most probable class is the true one."""
        return float((self.predicted == self.targets).mean())

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that have examples: each class counts the same, however rare it is."""
        return float(np.mean([row["recall"] for row in self.by_class() if row["recall"] is not None]))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the accuracy."""
        return wilson_interval(int((self.predicted == self.targets).sum()), len(self.targets))

    @property
    def num_errors(self) -> int:
        """Number of examples whose most probable class is not the true one."""
        return int((self.predicted != self.targets).sum())

    def metrics(self) -> dict:
        """The metrics over all examples, as plain values."""
        return {
            "accuracy": self.accuracy,
            "interval_95": self.interval,
            "balanced_accuracy": self.balanced_accuracy,
        }

    def confusion_matrix(self) -> np.ndarray:
        """`(classes, classes)` counts: rows are true classes, columns are predicted classes."""
        matrix = np.zeros((len(self.classes),) * 2, int)
        np.add.at(matrix, (self.targets, self.predicted), 1)
        return matrix

    def by_class(self) -> list[dict]:
        """For each class its name, number of examples, recall and precision (None if there is nothing to divide by)."""
        matrix = self.confusion_matrix()
        examples, predictions, correct = matrix.sum(1), matrix.sum(0), matrix.diagonal()
        return [
            {
                "class": name,
                "images": int(examples[k]),
                "recall": float(correct[k] / examples[k]) if examples[k] else None,
                "precision": float(correct[k] / predictions[k]) if predictions[k] else None,
            }
            for k, name in enumerate(self.classes)
        ]

    def most_confident_errors(self, limit: int = 24) -> list[tuple[int, int]]:
        """Wrongly classified examples as (index, number of the predicted class), the most confident first."""
        errors = np.flatnonzero(self.predicted != self.targets)
        order = np.argsort(-self.probabilities[errors].max(1), kind="stable")[:limit]
        return [(int(index), int(self.predicted[index])) for index in errors[order]]

    def true_label(self, index: int) -> str:
        """The name of the true class of an example."""
        return self.classes[self.targets[index]]


def wilson_interval(successes: int, examples: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson, 1927, JASA 22:209-212), which also holds near 0 and 1.

    Example:
        >>> wilson_interval(0, 10)
        (0.0, 0.2775...)
    """
    # `scipy.stats.binomtest(...).proportion_ci(method="wilson")` is the same, but importing `scipy.stats` takes 0.36 s of
    # processor time, on top of the other parts of SciPy that are used.
    z2 = NORMAL_95**2
    share = successes / examples
    centre = (share + z2 / (2 * examples)) / (1 + z2 / examples)
    half = NORMAL_95 / (1 + z2 / examples) * np.sqrt(share * (1 - share) / examples + z2 / (4 * examples**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
