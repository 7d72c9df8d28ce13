"""Cross-validation: each image is judged by a network that was trained on the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FOLDS = 4


def assign_folds(targets: np.ndarray, units: Sequence[str], folds: int = FOLDS) -> np.ndarray:
    """The fold of each image, int `(images,)`: classes are spread evenly, and the images of a unit stay together.

    Args:
        targets: Class numbers `(images,)`, or several labels per image `(images, classes)` of 0 and 1.
        units: For each image the name of its unit, such as a group of duplicates.
        folds: Number of folds.
    """
    _, kinds = np.unique(targets, axis=0, return_inverse=True)
    kinds = kinds.reshape(-1)
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
