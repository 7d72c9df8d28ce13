"""Where some classes are rare, a network rarely answers them: a shift of its logits evens the classes out.

Adding -tau · log(share of the class) to each logit is what training with balanced classes would learn (Menon et al., 2021,
Long-Tail Learning via Logit Adjustment, arXiv:2007.07314). It costs accuracy where most images are of the common classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from pipelines.training.decisions import Decision

TAUS = (0.25, 0.5, 0.75, 1.0)
UNEVEN = 5  # times as many images in the largest class as in the smallest


@dataclass(frozen=True)
class Adjustment:
    """A shift of the logits, and what it changes on the images that decide.

    Attributes:
        tau: 0: no shift; 1: as if all classes were equally frequent.
        bias: What is added to each logit, float32 `(classes,)`.
        balanced_accuracy: The mean recall of the classes, before and after.
        accuracy: The share of images that are classified correctly, before and after.
    """

    tau: float
    bias: np.ndarray
    balanced_accuracy: tuple[float, float]
    accuracy: tuple[float, float]

    def decision(self, judge: str) -> Decision:
        """What was chosen and why; `judge` says on which images."""
        if not self.tau:
            return Decision(
                "logit_adjustment", 0.0, f"no shift raises the mean recall of the uneven classes clearly ({judge})"
            )
        recall = " to ".join(f"{100 * value:.1f}" for value in self.balanced_accuracy)
        accuracy = " to ".join(f"{100 * value:.1f}" for value in self.accuracy)
        reason = f"mean recall of the uneven classes from {recall} %, accuracy from {accuracy} % ({judge})"
        return Decision("logit_adjustment", self.tau, reason)


def is_uneven(counts: np.ndarray) -> bool:
    """Whether the largest class has more than five times as many training images as the smallest."""
    return bool(counts.max() > UNEVEN * counts.min())


def choose_adjustment(probabilities: np.ndarray, targets: np.ndarray, counts: np.ndarray) -> Adjustment:
    """The shift with the highest balanced accuracy, if that rises by more than a standard error, and accuracy falls by less.

    Both standard errors are those of a difference on the same images: only images count whose answer changes between right
    and wrong.

    Args:
        probabilities: `(images, classes)`, of images that the network has not learned from.
        targets: `(images,)`, their class numbers.
        counts: `(classes,)`, the number of training images per class.
    """
    right = probabilities.argmax(1) == targets
    images = np.bincount(targets, minlength=len(counts))
    # The weight of an image in the mean recall of the classes.
    weights = (1 / (np.count_nonzero(images) * np.maximum(images, 1)))[targets]
    best = Adjustment(0.0, np.zeros(len(counts), "float32"), (weights @ right,) * 2, (right.mean(),) * 2)
    for tau in TAUS:
        bias = shift(tau, counts)
        now = adjust(probabilities, bias).argmax(1) == targets
        change = now.astype(int) - right
        uncertain = np.sqrt((weights**2) @ change**2 + weights.max() ** 2)
        tolerated = np.sqrt(np.count_nonzero(change) + 1) / len(targets)
        if weights @ change > uncertain and -change.mean() < tolerated and weights @ now > best.balanced_accuracy[1]:
            accuracies = (float(right.mean()), float(now.mean()))
            best = Adjustment(tau, bias, (float(weights @ right), float(weights @ now)), accuracies)
    return best


def shift(tau: float, counts: np.ndarray) -> np.ndarray:
    """What is added to each logit, float32 `(classes,)`: -tau · log(share of the class), of mean 0."""
    prior = np.log(np.maximum(counts, 1) / counts.sum())
    return (-tau * (prior - prior.mean())).astype("float32")


def adjust(probabilities: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The probabilities after `bias` is added to the logits."""
    return softmax(np.log(np.maximum(probabilities, 1e-30)) + bias, axis=1).astype(probabilities.dtype)
