"""Who trains, who chooses, who tests: a hash decides, so that no image moves when others come or go.

Each unit (a group, or an image that has none) has a place in [0, 1): a hash of the seed and its name. Places below 0.20
test, those below 0.35 validate, the others train. Nothing else is looked at, so a unit stays where it is whatever is added
or removed, and every class has about the same shares: of n images 0.20 n test, with a standard deviation of 0.4 √n.

Small classes may lack a split then. No rule that looks at one unit alone can prevent it, so there the nearest unit of the
class is moved into the split that lacks one. That is the one exception to stability: a unit may return to its own split once
another one arrives there. Of classes with n images (without groups) fewer than 0.85^n + 0.80^n + 0.35^n are concerned: 30 %
at 10 images, 5 % at 20, 0.03 % at 50. A run's `catalog.csv`, given as the data, holds every split as it was.

Shares that come out exactly, by sorting, would be the alternative: there every image that is added moves others.
"""

from __future__ import annotations

import hashlib
import os

import numpy as np

from pipelines.errors import InputError

SPLITS = ("train", "validation", "test")
SPELLINGS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
ORDER = ("test", "validation", "train")  # along the places
EDGES = (0.20, 0.35)
# The splits that a class needs first, and from how many units on.
NEEDS = {"train": 1, "test": 2, "validation": 3}


def draw(units, classes, given, seed: int) -> list[str]:
    """The split of each row.

    Args:
        units: For each row the name of its unit: rows of one unit have the same split.
        classes: For each row its class numbers, a sequence.
        given: For each row its official split, which it keeps, or "". A split that no row has is taken out of "train".
        seed: An integer.

    Returns:
        For each row "train", "validation" or "test". Where a class has three units or more each split has one of them, as
        far as rows are free to move and units with several classes allow it.

    Raises:
        InputError: If a unit has rows in two official splits.
    """
    numbers: dict[str, int] = {}
    unit = np.array([numbers.setdefault(name, len(numbers)) for name in units], int)
    places = np.array([_place(seed, name) for name in numbers])
    official = _official(list(numbers), unit, given)
    allowed = _allowed(official)
    chosen = np.searchsorted(EDGES, places, side="right")
    held = np.where(official < 0, ORDER.index("train"), official)
    chosen = np.where(allowed[np.arange(len(chosen)), chosen], chosen, held)
    _fill(chosen, places, allowed, _pairs(unit, classes, len(numbers)))
    return [ORDER[split] for split in chosen[unit]]


def relative_to(root):
    """A function of a path: the path below the root, with slashes; what the split of a file is drawn from."""
    start = os.path.join(root, "")

    def relative(path):
        # The short way where it is as good: millions of names by `relpath` take minutes.
        name = path[len(start) :] if path.startswith(start) else os.path.relpath(path, root or os.curdir)
        return name.replace(os.sep, "/")

    return relative


def _place(seed, name):
    digest = hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _official(names, unit, given):
    """For each unit the number of its official split, -1 without one."""
    own = np.array([ORDER.index(split) if split else -1 for split in given], int)
    official, rows = np.full(len(names), -1), np.flatnonzero(own >= 0)
    official[unit[rows]] = own[rows]
    for row in rows[official[unit[rows]] != own[rows]][:1]:
        other = ORDER[official[unit[row]]]
        raise InputError(
            f"A group must lie in one split. Received: {names[unit[row]]!r} in {ORDER[own[row]]} and in {other}. "
            "Correct the splits, or do without groups."
        )
    return official


def _allowed(official):
    """`(units, splits)`: where each unit may be."""
    allowed = np.zeros((len(official), len(ORDER)), bool)
    allowed[official < 0] = True
    allowed[np.arange(len(official)), official] = True  # -1 is one of those that may be anywhere
    absent = [number for number in range(len(ORDER)) if number not in official]
    allowed[np.ix_(official == ORDER.index("train"), absent)] = True
    return allowed


def _pairs(unit, classes, count):
    """Each class with each of its units once: two arrays, sorted by class."""
    lengths = [len(own) for own in classes]
    flat = np.array([number for own in classes for number in own], np.int64)
    return np.divmod(np.unique(flat * count + np.repeat(unit, lengths)), count)


def _fill(chosen, places, allowed, pairs):
    """Move units, in place, so that no class lacks a split that it has units for."""
    of_class, of_unit = pairs
    total = np.bincount(of_class)
    counts = np.zeros((len(total), len(ORDER)), int)
    np.add.at(counts, (of_class, chosen[of_unit]), 1)
    needed = np.array([NEEDS[name] for name in ORDER])
    by_unit = np.argsort(of_unit, kind="stable")
    starts = np.searchsorted(of_unit[by_unit], np.arange(len(chosen) + 1))

    def classes_of(unit):
        return of_class[by_unit[starts[unit] : starts[unit + 1]]]

    def spare(unit):
        """Whether no class of the unit would lack one where it is now."""
        own, split = classes_of(unit), chosen[unit]
        return ((counts[own, split] > 1) | (total[own] < needed[split])).all()

    edges = (0.0, *EDGES, 1.0)
    for split in map(ORDER.index, NEEDS):
        low, high = edges[split], edges[split + 1]
        for number in np.flatnonzero((counts[:, split] == 0) & (total >= needed[split])):
            if counts[number, split]:  # a unit that was moved for another class
                continue
            own = of_unit[slice(*np.searchsorted(of_class, (number, number + 1)))]
            fit = [unit for unit in own if allowed[unit, split] and spare(unit)]
            if fit:
                unit = min(fit, key=lambda unit: (max(low - places[unit], places[unit] - high), places[unit]))
                np.add.at(counts, (classes_of(unit), chosen[unit]), -1)
                np.add.at(counts, (classes_of(unit), split), 1)
                chosen[unit] = split
