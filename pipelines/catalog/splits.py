"""Training, validation and test splits. A hash decides, so no image changes its split when others are added or removed.

Each unit (a group, or an image without a group) has a hash value in [0, 1), from the seed and its name. Units below 0.20 go to
test, those below 0.35 to validation, the others to train. Nothing else counts. So a unit stays in its split, and every class
has about the same shares: of n images 0.20 n are for the test, with a standard deviation of 0.4 √n.

A small class may have no image in one of the splits. No rule that looks at one unit alone can prevent that. So the unit of the
class whose hash value is nearest moves into the split that lacks one. This is the one exception to stability: a unit may
return to its own split once another one is added there. Among classes of n images (without groups), fewer than
0.85^n + 0.80^n + 0.35^n are affected: 30 % at 10 images, 5 % at 20, 0.03 % at 50. The `catalog.csv` of a run, used as data,
gives every image the split that it had.

The alternative is exact shares, by sorting. Then every image that is added moves others.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence

import numpy as np

from pipelines.errors import InputError

SPLITS = ("train", "validation", "test")
SPELLINGS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
ORDER = ("test", "validation", "train")  # of rising hash values
EDGES = (0.20, 0.35)
# The splits that a class needs, in order of importance, and the number of units from which on it needs them.
NEEDS = {"train": 1, "test": 2, "validation": 3}


def draw(units: Sequence[str], classes: Sequence[Sequence[int]], official: Sequence[str], seed: int) -> list[str]:
    """The split of each file.

    Args:
        units: For each file the name of its unit: files of one unit have the same split.
        classes: For each file its class numbers.
        official: For each file its official split, which it keeps, or "". A split that no file has is drawn from "train".
        seed: An integer.

    Returns:
        For each file "train", "validation" or "test". If a class has three units or more, each split has one of them, as far
        as official splits and units with several classes permit.

    Raises:
        InputError: If a unit has files in two official splits.
    """
    numbers: dict[str, int] = {}
    unit_of = np.array([numbers.setdefault(name, len(numbers)) for name in units], int)
    hashes = np.array([_hash(seed, name) for name in numbers])
    official_of_unit = _official_of_units(list(numbers), unit_of, official)
    allowed = _allowed(official_of_unit)
    chosen = np.searchsorted(EDGES, hashes, side="right")
    fallback = np.where(official_of_unit < 0, ORDER.index("train"), official_of_unit)
    chosen = np.where(allowed[np.arange(len(chosen)), chosen], chosen, fallback)
    _fill_missing_splits(chosen, hashes, allowed, _class_unit_pairs(unit_of, classes, len(numbers)))
    return [ORDER[split] for split in chosen[unit_of]]


def relative_to(root: str) -> Callable[[str], str]:
    """A function of a path that gives the path below the root, with slashes. The split of a file is drawn from it."""
    start = os.path.join(root, "")

    def relative(path: str) -> str:
        # Cutting off the root is enough for most paths: `relpath` takes minutes for millions of names.
        name = path[len(start) :] if path.startswith(start) else os.path.relpath(path, root or os.curdir)
        return name.replace(os.sep, "/")

    return relative


def _hash(seed: int, name: str) -> float:
    digest = hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _official_of_units(names: Sequence[str], unit_of: np.ndarray, official: Sequence[str]) -> np.ndarray:
    """For each unit the number of its official split, -1 if it has none."""
    own = np.array([ORDER.index(split) if split else -1 for split in official], int)
    official_of_unit = np.full(len(names), -1)
    indices = np.flatnonzero(own >= 0)
    official_of_unit[unit_of[indices]] = own[indices]
    for index in indices[official_of_unit[unit_of[indices]] != own[indices]][:1]:
        other = ORDER[official_of_unit[unit_of[index]]]
        raise InputError(
            f"A group must be in one split. Received: {names[unit_of[index]]!r} in {ORDER[own[index]]} and in {other}. "
            "Correct the splits, or use no groups."
        )
    return official_of_unit


def _allowed(official_of_unit: np.ndarray) -> np.ndarray:
    """`(units, splits)`: whether each unit may be in each split."""
    allowed = np.zeros((len(official_of_unit), len(ORDER)), bool)
    allowed[official_of_unit < 0] = True
    allowed[np.arange(len(official_of_unit)), official_of_unit] = True  # -1: these units may be in any split
    absent = [number for number in range(len(ORDER)) if number not in official_of_unit]
    allowed[np.ix_(official_of_unit == ORDER.index("train"), absent)] = True
    return allowed


def _class_unit_pairs(
    unit_of: np.ndarray, classes: Sequence[Sequence[int]], num_units: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each class with each of its units once: two arrays, sorted by class."""
    lengths = [len(own) for own in classes]
    flat = np.array([number for own in classes for number in own], np.int64)
    return np.divmod(np.unique(flat * num_units + np.repeat(unit_of, lengths)), num_units)


def _fill_missing_splits(
    chosen: np.ndarray, hashes: np.ndarray, allowed: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]
) -> None:
    """Move units, in place, so that no class lacks a split that it has units for."""
    pair_class, pair_unit = pairs
    total = np.bincount(pair_class)
    counts = np.zeros((len(total), len(ORDER)), int)
    np.add.at(counts, (pair_class, chosen[pair_unit]), 1)
    needed = np.array([NEEDS[name] for name in ORDER])
    by_unit = np.argsort(pair_unit, kind="stable")
    starts = np.searchsorted(pair_unit[by_unit], np.arange(len(chosen) + 1))

    def classes_of(unit: int) -> np.ndarray:
        return pair_class[by_unit[starts[unit] : starts[unit + 1]]]

    def can_leave(unit: int) -> bool:
        """Whether no class of the unit needs it in its present split."""
        own, split = classes_of(unit), chosen[unit]
        return ((counts[own, split] > 1) | (total[own] < needed[split])).all()

    edges = (0.0, *EDGES, 1.0)
    for split in map(ORDER.index, NEEDS):
        low, high = edges[split], edges[split + 1]
        for number in np.flatnonzero((counts[:, split] == 0) & (total >= needed[split])):
            if counts[number, split]:  # a unit that moved for another class fills it
                continue
            own = pair_unit[slice(*np.searchsorted(pair_class, (number, number + 1)))]
            movable = [unit for unit in own if allowed[unit, split] and can_leave(unit)]
            if movable:
                nearest = min(movable, key=lambda unit: (max(low - hashes[unit], hashes[unit] - high), hashes[unit]))
                counts[classes_of(nearest), chosen[nearest]] -= 1
                counts[classes_of(nearest), split] += 1
                chosen[nearest] = split
