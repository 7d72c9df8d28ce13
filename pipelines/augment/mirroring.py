"""Whether a mirror image is as good an example as the picture itself, told by a head that has seen no mirror images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KEPT = 0.9
LARGEST_INCREASE = 1.0  # nats: the class's own likelihood falls to 1/e


@dataclass(frozen=True)
class Mirroring:
    """What mirroring the validation images does to a head that was fitted to images as they are.

    Attributes:
        plain: Mean loss (cross-entropy in nats) on the images.
        mirrored: The same on their mirror images.
        kept: Share of what the head knows of the images that it knows of their mirror images: with H the loss of knowing
            no more than how frequent each class is, (H - mirrored) / (H - plain). 0 where it knows nothing.
        harmed: Numbers of the classes whose own loss rises by more than 1 nat on average, the worst first.
    """

    plain: float
    mirrored: float
    kept: float
    harmed: tuple[int, ...]

    @property
    def harmless(self) -> bool:
        """Whether training with mirror images can be advised: nine tenths are kept, and no class is harmed."""
        return self.kept >= KEPT and not self.harmed


def mirroring(plain: np.ndarray, mirrored: np.ndarray, targets: np.ndarray) -> Mirroring:
    """Compare a head's probabilities for images and for their mirror images.

    Args:
        plain: `(images, classes)`, probabilities.
        mirrored: The same for the mirror images, in the same order.
        targets: `(images,)`, class numbers.
    """
    rows = np.arange(len(targets))
    losses, others = (-np.log(scores[rows, targets].astype("float64") + 1e-12) for scores in (plain, mirrored))
    counts = np.bincount(targets)
    ignorance = np.log(len(targets) / counts[targets]).mean()
    known = ignorance - losses.mean()
    kept = (ignorance - others.mean()) / known if known > 0 else 0.0
    increase = np.bincount(targets, others - losses) / np.maximum(counts, 1)
    harmed = [int(number) for number in np.argsort(-increase) if increase[number] > LARGEST_INCREASE]
    return Mirroring(float(losses.mean()), float(others.mean()), float(kept), tuple(harmed))
