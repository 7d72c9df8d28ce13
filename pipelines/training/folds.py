"""Cross-validation: each image is judged by a network that was trained on the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FOLDS = 4


def assign_folds(targets: np.ndarray, units: Sequence[str], folds: int = FOLDS) -> np.ndarray:
    """The fold of each image, int `(images,)`: classes are spread evenly, and the images of a unit stay together.

    Of several labels per image, the rarest one counts.

    Args:
        targets: Class numbers `(images,)`, or several labels per image `(images, classes)` of 0 and 1.
        units: For each image the name of its unit, such as a group of duplicates.
        folds: Number of folds.
    """
    kinds = _rarest_classes(targets)
    members: dict[str, list[int]] = {}
    for image, unit in enumerate(units):
        members.setdefault(unit, []).append(image)
    of_kind, sizes = np.zeros((kinds.max() + 1, folds), int), np.zeros(folds, int)
    fold_of = np.empty(len(units), int)
    # Large units first: small ones can still even out what they have made uneven.
    for images in sorted(members.values(), key=lambda images: (-len(images), kinds[images[0]])):
        kind = kinds[images[0]]
        fold = min(range(folds), key=lambda fold: (of_kind[kind, fold], sizes[fold]))
        fold_of[images] = fold
        of_kind[kind, fold] += len(images)
        sizes[fold] += len(images)
    return fold_of


def teaches_all_classes(targets: np.ndarray, fold_of: np.ndarray) -> bool:
    """Whether, whichever fold is left out, the others have images of each class; not so if a class is one unit."""
    shown = np.eye(targets.max() + 1, dtype=int)[targets] if targets.ndim == 1 else targets
    return all((shown[fold_of != fold].sum(0)[shown.sum(0) > 0] > 0).all() for fold in np.unique(fold_of))


def _rarest_classes(targets):
    """For each image the number of its class, of several the rarest; one number more for images of none."""
    if targets.ndim == 1:
        return targets
    frequencies = np.where(targets == 1, targets.sum(0), len(targets) + 1)
    return np.where(targets.any(1), frequencies.argmin(1), targets.shape[1])
