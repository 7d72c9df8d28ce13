"""How far a network in another precision is from the model: by its accuracy, and by how its scores are spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_cnn import arguments
from keras_cnn.training.ranking import average_precision

# An image's largest difference of a score: the median, and that of all images but one in a hundred. On the photos, drawings
# and textures of `benchmarks/precision.py` no precision comes near either; a kernel that is lost or overflows goes far beyond.
MEDIAN, PERCENTILE_99 = 0.05, 0.5
DECISION = 0.5  # the probability from which on a label of several is given
SHOWN = 5


def truth_of(targets, shape: tuple[int, int], several: bool) -> np.ndarray:
    """A row of 0 and 1 for each example, from the targets that `export` takes; NaN where there are none.

    Raises:
        ValueError: If they are neither class numbers nor, with several labels an image, rows of 0 and 1.
    """
    examples, classes = shape
    if targets is None:
        return np.full(shape, np.nan)
    if len(targets) != examples:
        expected = f"as many numbers as there are examples ({examples})"
        raise ValueError(arguments.message("export", "targets", expected, targets))
    rows = [np.asarray(one) if several else np.asarray(one) == np.arange(classes) for one in targets]
    if any(row.shape != (classes,) or not np.isin(row, (0, 1)).all() or not (several or row.any()) for row in rows):
        expected = f"rows of {classes} zeros and ones" if several else f"class numbers from 0 to {classes - 1}"
        raise ValueError(arguments.message("export", "targets", expected, targets))
    return np.array(rows, "float64").reshape(shape)


@dataclass(frozen=True)
class Agreement:
    """Scores of two networks for the same images, `(images, classes)`.

    Attributes:
        expected: Those of the model.
        found: Those of what is served.
        truth: 1 where an image has a class, else 0; NaN in a row that is not known.
        several: Whether an image may have several labels.
        names: Of the images.
    """

    expected: np.ndarray
    found: np.ndarray
    truth: np.ndarray
    several: bool
    names: Sequence[str]

    @property
    def differences(self) -> np.ndarray:
        """Each image's largest absolute difference of a score."""
        return np.abs(self.found - self.expected).max(1)

    @property
    def percentile_99(self) -> float:
        """The difference that all images but one in a hundred stay within, at least one of them left out."""
        return float(np.sort(self.differences)[max(0, len(self.names) - 1 - max(1, len(self.names) // 100))])

    @property
    def changed(self) -> np.ndarray:
        """Which images get another best class, or with several labels another set of labels."""
        return (self._answers(self.found) != self._answers(self.expected)).any(1)

    @property
    def known(self) -> bool:
        """Whether the truth is known of any image."""
        return bool((~np.isnan(self.truth)).any())

    def accuracy(self, scores: np.ndarray) -> float:
        """The share of images that are classified rightly; with several labels the mean average precision.

        Where the truth is not known the model's word stands for it: its probability of the class that is found, or with
        several labels its decisions.
        """
        if self.several:
            words = self._answers(self.expected)
            precisions = average_precision(scores, np.where(np.isnan(self.truth), words, self.truth))
            return float(np.nanmean(precisions)) if np.isfinite(precisions).any() else 1.0
        right = np.where(np.isnan(self.truth), self.expected, self.truth)
        return float(right[np.arange(len(right)), scores.argmax(1)].mean())

    def measured(self) -> dict:
        """Figures by the names that `Verification` has for them."""
        name = "mean_average_precision" if self.several else "accuracy"
        accuracies = {name: self.accuracy(self.found), f"{name}_before": self.accuracy(self.expected)}
        return {
            "agreement": float((~self.changed).mean()),
            "median": float(np.median(self.differences)),
            "percentile_99": self.percentile_99,
            **(accuracies if self.known else {}),
        }

    def allowed_drop(self, max_accuracy_drop: float) -> float:
        """The same, or one image if that is more: of a few images one would always be too many. Nothing if it is 0."""
        return max(max_accuracy_drop, 1 / len(self.names)) if max_accuracy_drop else 0.0

    def objection(self, precision: str, max_accuracy_drop: float) -> str | None:
        """Why the network may not be served in this precision, with images to look at; None if it may."""
        before, after = self.accuracy(self.expected), self.accuracy(self.found)
        measure = "mean average precision" if self.several else "accuracy"
        remedy = "Use another precision"
        median, percentile = float(np.median(self.differences)), self.percentile_99
        if not np.isfinite(self.found).all():
            expected, received = "must give finite scores", f"{np.isnan(self.differences).sum()} images without"
        elif before - after > self.allowed_drop(max_accuracy_drop) + 1e-9:
            expected = f"may lose {max_accuracy_drop} of its {measure}, or one image if that is more"
            received = f"{after:.4f} instead of {before:.4f}"
            remedy += ", or allow more (max_accuracy_drop=, or --max-accuracy-drop)"
        elif median > MEDIAN or percentile > PERCENTILE_99:
            expected = f"must give scores that differ by no more than {MEDIAN} in the median and {PERCENTILE_99} on all but 1 %"
            received = f"{median:.3g} and {percentile:.3g}"
        else:
            return None
        return (
            f"export: in {precision} the network {expected}. Received: {received}, on {len(self.names)} images; "
            f"{self._examples()}. {remedy}."
        )

    def furthest(self, differences: np.ndarray) -> str:
        """The images whose differences are the largest, in words."""
        worst = np.argsort(-np.nan_to_num(differences, nan=np.inf), kind="stable")[:SHOWN]
        return ", ".join(f"{self.names[k]} ({differences[k]:.3g})" for k in worst)

    def _examples(self):
        changed = np.flatnonzero(self.changed)
        if not len(changed):
            return f"the scores differ most for {self.furthest(self.differences)}"
        most = changed[np.argsort(-self.differences[changed], kind="stable")]
        more = ", ..." if len(most) > SHOWN else ""
        return f"it answers otherwise for {', '.join(self.names[k] for k in most[:SHOWN])}{more} ({len(most)} images)"

    def _answers(self, scores):
        """Booleans `(images, classes)`: the classes that are given."""
        return scores >= DECISION if self.several else np.eye(scores.shape[1], dtype=bool)[scores.argmax(1)]
