"""Whether a mirror image is as good an example as the picture itself, told by a head that has seen no mirror images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import entr, expit, softmax

from keras_cnn.training import fit_linear_probe

FOLDS = 5
KEPT = 0.9
LARGEST_INCREASE = 1.0  # nats: the class's own likelihood falls to 1/e


@dataclass(frozen=True)
class Mirroring:
    """What mirroring the validation images does to a head that was fitted to images as they are.

    Attributes:
        plain: Mean loss (cross-entropy in nats, with several labels an image the sum over the classes) on the images.
        mirrored: The same on their mirror images.
        kept: Share of what the head knows of the images that it knows of their mirror images: with H the loss of knowing
            no more than how frequent each class is, (H - mirrored) / (H - plain). 0 where it knows nothing.
        harmed: Numbers of the classes whose own loss, -log of their probability on the images that have them, rises by more
            than 1 nat on average, the worst first.
    """

    plain: float
    mirrored: float
    kept: float
    harmed: tuple[int, ...]

    @property
    def harmless(self) -> bool:
        """Whether training with mirror images can be advised: nine tenths are kept, and no class is harmed."""
        return self.kept >= KEPT and not self.harmed


def cross_validated(
    plain: np.ndarray, flipped: np.ndarray, targets: np.ndarray, classes: int, penalty: float
) -> Mirroring:
    """`mirroring` by cross-validation, where few images are held out: each fold is judged by a head that saw the others.

    Args:
        plain: `(images, features)`, what the frozen network gives for the images.
        flipped: The same for the flipped images, in the same order.
        targets: As in `mirroring`.
        classes: Number of classes.
        penalty: L2 penalty of the heads, as in `keras_cnn.training.fit_linear_probe`.
    """
    fold = _folds(targets)
    found = np.empty((2, len(targets), classes))
    scores = expit if targets.ndim == 2 else lambda logits: softmax(logits, axis=1)
    for number in range(FOLDS):
        held, rest = fold == number, fold != number
        head = fit_linear_probe(plain[rest], targets[rest], classes, plain[rest], targets[rest], (penalty,))
        found[:, held] = [scores(head.logits(features[held].astype("float32"))) for features in (plain, flipped)]
    return mirroring(found[0], found[1], targets)


def _folds(targets):
    """The number of each example's fold: those of a class, or of a set of labels, are dealt out one by one."""
    order = np.argsort(targets, kind="stable") if targets.ndim == 1 else np.lexsort(targets.T)
    fold = np.empty(len(targets), int)
    fold[order] = np.arange(len(targets)) % FOLDS
    return fold


def mirroring(plain: np.ndarray, mirrored: np.ndarray, targets: np.ndarray) -> Mirroring:
    """Compare a head's probabilities for images and for their mirror images.

    Args:
        plain: `(images, classes)`, probabilities.
        mirrored: The same for the mirror images, in the same order.
        targets: `(images,)`, class numbers; or `(images, classes)` of 0 and 1, where the probabilities are independent.
    """
    several = targets.ndim == 2
    truth = targets if several else np.eye(plain.shape[1])[targets]
    share, counts = truth.mean(0), truth.sum(0)
    # With one label an image, what is said of the other classes follows from what is said of its own.
    absent = several * (1 - truth)
    ignorance = (entr(share) + several * entr(1 - share)).sum()
    present, losses = [], []
    for scores in (plain.astype("float64"), mirrored.astype("float64")):
        present.append(-truth * np.log(scores + 1e-12))
        losses.append((present[-1] - absent * np.log(1 - scores + 1e-12)).sum(1).mean())
    known = ignorance - losses[0]
    kept = (ignorance - losses[1]) / known if known > 0 else 0.0
    increase = (present[1] - present[0]).sum(0) / np.maximum(counts, 1)
    harmed = [int(number) for number in np.argsort(-increase) if increase[number] > LARGEST_INCREASE]
    return Mirroring(float(losses[0]), float(losses[1]), float(kept), tuple(harmed))
