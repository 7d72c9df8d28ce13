"""Whether flipped images are good training examples. A head that was fitted to unflipped images decides.

Left and right matter in text, digits, arrows and traffic signs: there a flipped image shows another class, or none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import entr, expit, softmax

from keras_cnn.training import fit_linear_probe

MIN_RETAINED = 0.9
MAX_INCREASE = 1.0  # nats: the probability of the class falls to 1/e of what it was


@dataclass(frozen=True)
class FlipCheck:
    """How a horizontal flip of the validation images changes the loss of a head that was fitted to unflipped images.

    Attributes:
        plain: Mean loss on the images: cross-entropy in nats, for multi-label data summed over the classes.
        flipped: The same on the flipped images.
        retained: Share of the head's knowledge that is left on the flipped images. With H the loss of predicting only how
            frequent each class is, (H - flipped) / (H - plain). 0 if the head knows nothing.
        harmed: Numbers of the classes whose own loss rises by more than 1 nat on average, the largest rise first. The own
            loss of a class is -log of its probability, on the images of the class.
    """

    plain: float
    flipped: float
    retained: float
    harmed: tuple[int, ...]

    @property
    def is_safe(self) -> bool:
        """Whether to train with flipped images: at least 90 % of the knowledge is retained, and no class is harmed."""
        return self.retained >= MIN_RETAINED and not self.harmed


def check_flips_by_cross_validation(
    plain: np.ndarray, flipped: np.ndarray, targets: np.ndarray, classes: int, l2: float, fold_of: np.ndarray
) -> FlipCheck:
    """`check_flips` for data sets with few validation images: each fold is judged by a head fitted to the other folds.

    Args:
        plain: `(images, features)`, the features of the images.
        flipped: The same for the flipped images, in the same order.
        targets: As in `check_flips`.
        classes: Number of classes.
        l2: L2 penalty of the heads, as in `keras_cnn.training.fit_linear_probe`.
        fold_of: The fold of each image, `(images,)`, from 0.
    """
    probabilities = np.empty((2, len(targets), classes))
    activation = expit if targets.ndim == 2 else lambda logits: softmax(logits, axis=1)
    for fold in np.unique(fold_of):
        test, train = fold_of == fold, fold_of != fold
        head = fit_linear_probe(plain[train], targets[train], classes, plain[train], targets[train], (l2,))
        for k, features in enumerate((plain, flipped)):
            probabilities[k, test] = activation(head.logits(features[test].astype("float32")))
    return check_flips(probabilities[0], probabilities[1], targets)


def check_flips(plain: np.ndarray, flipped: np.ndarray, targets: np.ndarray) -> FlipCheck:
    """Compare a head's probabilities for images and for the flipped images.

    Args:
        plain: `(images, classes)`, probabilities.
        flipped: The same for the flipped images, in the same order.
        targets: `(images,)`, class numbers; for multi-label data `(images, classes)` of 0 and 1.
    """
    multi_label = targets.ndim == 2
    present = targets if multi_label else np.eye(plain.shape[1])[targets]
    # With a softmax the probability of the true class is enough; with sigmoids the absent classes have a loss too.
    absent = multi_label * (1 - present)
    frequency = present.mean(0)
    baseline = (entr(frequency) + multi_label * entr(1 - frequency)).sum()
    present_losses, losses = [], []
    for probabilities in (plain.astype("float64"), flipped.astype("float64")):
        present_losses.append(-present * np.log(probabilities + 1e-12))
        losses.append((present_losses[-1] - absent * np.log(1 - probabilities + 1e-12)).sum(1).mean())
    knowledge = baseline - losses[0]
    retained = (baseline - losses[1]) / knowledge if knowledge > 0 else 0.0
    increase = (present_losses[1] - present_losses[0]).sum(0) / np.maximum(present.sum(0), 1)
    harmed = [int(k) for k in np.argsort(-increase) if increase[k] > MAX_INCREASE]
    return FlipCheck(float(losses[0]), float(losses[1]), float(retained), tuple(harmed))
