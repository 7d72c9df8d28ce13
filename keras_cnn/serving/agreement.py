"""Compares the probabilities of a served network with those of its Keras model, to judge a lower precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_cnn import arguments
from keras_cnn.training.metrics import average_precision

# The largest difference of a probability of an image may reach these values in the median and in all images but one in a
# hundred. On the photos, drawings and textures of `benchmarks/precision.py` no precision comes near either; a kernel that is
# lost or overflows goes far beyond.
MAX_MEDIAN, MAX_PERCENTILE_99 = 0.05, 0.5
DECISION_THRESHOLD = 0.5  # the probability from which on an image with several labels has a label
MOST_NAMES = 5


def targets_matrix(targets: Sequence | None, shape: tuple[int, int], multi_label: bool) -> np.ndarray:
    """The targets that `export` takes as a matrix of 0 and 1, `(examples, classes)`; NaN where there are none.

    Raises:
        ValueError: If the targets are not class numbers or, with several labels per image, not rows of 0 and 1.
    """
    examples, classes = shape
    if targets is None:
        return np.full(shape, np.nan)
    if len(targets) != examples:
        expected = f"as many numbers as there are examples ({examples})"
        raise ValueError(arguments.message("export", "targets", expected, targets))
    rows = [np.asarray(one) if multi_label else np.asarray(one) == np.arange(classes) for one in targets]
    if any(row.shape != (classes,) or not np.isin(row, (0, 1)).all() or not (multi_label or row.any()) for row in rows):
        expected = f"rows of {classes} zeros and ones" if multi_label else f"class numbers from 0 to {classes - 1}"
        raise ValueError(arguments.message("export", "targets", expected, targets))
    return np.array(rows, "float64").reshape(shape)


@dataclass(frozen=True)
class Agreement:
    """The probabilities that two networks give for the same images, `(images, classes)`.

    Attributes:
        expected: The probabilities of the Keras model.
        served: The probabilities of the served network.
        targets: 1 where an image has a class, else 0; NaN in the row of an image without a target.
        multi_label: Whether an image may have several labels.
        names: The names of the images.
    """

    expected: np.ndarray
    served: np.ndarray
    targets: np.ndarray
    multi_label: bool
    names: Sequence[str]

    @property
    def differences(self) -> np.ndarray:
        """The largest absolute difference of a probability, per image."""
        return np.abs(self.served - self.expected).max(1)

    @property
    def percentile_99(self) -> float:
        """The largest of `differences` without the highest 1 %, at least one of which is left out."""
        return float(np.sort(self.differences)[max(0, len(self.names) - 1 - max(1, len(self.names) // 100))])

    @property
    def changed(self) -> np.ndarray:
        """Whether an image gets another best class or, with several labels, another set of labels."""
        return (self._predicted(self.served) != self._predicted(self.expected)).any(1)

    @property
    def has_targets(self) -> bool:
        """Whether any image has a target."""
        return bool((~np.isnan(self.targets)).any())

    def accuracy(self, probabilities: np.ndarray) -> float:
        """The accuracy or, with several labels per image, the mean average precision.

        For an image without a target, the Keras model stands in: its probability of the class that is found or, with several
        labels, its predicted labels.
        """
        if self.multi_label:
            targets = np.where(np.isnan(self.targets), self._predicted(self.expected), self.targets)
            precisions = average_precision(probabilities, targets)
            return float(np.nanmean(precisions)) if np.isfinite(precisions).any() else 1.0
        targets = np.where(np.isnan(self.targets), self.expected, self.targets)
        return float(targets[np.arange(len(targets)), probabilities.argmax(1)].mean())

    def metrics(self) -> dict[str, float]:
        """The numbers that `Verification` holds, by its names."""
        name = "mean_average_precision" if self.multi_label else "accuracy"
        accuracies = {name: self.accuracy(self.served), f"{name}_before": self.accuracy(self.expected)}
        return {
            "agreement": float((~self.changed).mean()),
            "median_difference": float(np.median(self.differences)),
            "percentile_99_difference": self.percentile_99,
            **(accuracies if self.has_targets else {}),
        }

    def allowed_drop(self, max_accuracy_drop: float) -> float:
        """`max_accuracy_drop`, or one image if that is more: of ten images, one is 0.1. 0 stays 0."""
        return max(max_accuracy_drop, 1 / len(self.names)) if max_accuracy_drop else 0.0

    def objection(self, precision: str, max_accuracy_drop: float) -> str | None:
        """Why the network may not be served in this precision, with images to look at; None if it may."""
        before, after = self.accuracy(self.expected), self.accuracy(self.served)
        metric = "mean average precision" if self.multi_label else "accuracy"
        remedy = "Use another precision"
        median, percentile = float(np.median(self.differences)), self.percentile_99
        if not np.isfinite(self.served).all():
            expected, received = "must give finite probabilities", f"NaN for {np.isnan(self.differences).sum()} images"
        elif before - after > self.allowed_drop(max_accuracy_drop) + 1e-9:
            expected = f"may lose {max_accuracy_drop} of its {metric}, or one image if that is more"
            received = f"{after:.4f} instead of {before:.4f}"
            remedy += ", or allow more (max_accuracy_drop=, or --max-accuracy-drop)"
        elif median > MAX_MEDIAN or percentile > MAX_PERCENTILE_99:
            expected = (
                f"must give probabilities that differ by no more than {MAX_MEDIAN} in the median and {MAX_PERCENTILE_99} in "
                "99 % of the images"
            )
            received = f"{median:.3g} and {percentile:.3g}"
        else:
            return None
        return (
            f"export: in {precision} the network {expected}. Received: {received}, on {len(self.names)} images; "
            f"{self._format_changed()}. {remedy}."
        )

    def format_most_different(self, differences: np.ndarray) -> str:
        """The images with the largest differences, such as "a.jpg (0.02), b.jpg (0.01)"."""
        most = np.argsort(-np.nan_to_num(differences, nan=np.inf), kind="stable")[:MOST_NAMES]
        return ", ".join(f"{self.names[k]} ({differences[k]:.3g})" for k in most)

    def _format_changed(self) -> str:
        changed = np.flatnonzero(self.changed)
        if not len(changed):
            return f"the probabilities differ most for {self.format_most_different(self.differences)}"
        most = changed[np.argsort(-self.differences[changed], kind="stable")]
        names = arguments.join_some((self.names[k] for k in most), MOST_NAMES)
        return f"it answers otherwise for {names} ({len(most)} images)"

    def _predicted(self, probabilities: np.ndarray) -> np.ndarray:
        """Booleans `(images, classes)`: the labels that each image gets."""
        if self.multi_label:
            return probabilities >= DECISION_THRESHOLD
        return np.eye(probabilities.shape[1], dtype=bool)[probabilities.argmax(1)]
