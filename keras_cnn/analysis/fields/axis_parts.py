"""The parts of a tensor's axes: which rows of input cells run along them, cut and joined by reshapes."""

from __future__ import annotations

import math
from typing import NamedTuple


class Atom(NamedTuple):
    """A part of a tensor axis, or all of it. An axis is the row-major product of its atoms.

    Attributes:
        source: The input axis that it follows; None if it follows none, as channels do.
        size: Units along it; None if unknown.
        step: Units of the row of `source` from one unit of the atom to the next: 1, unless a reshape split the row.
    """

    source: int | None
    size: int | None
    step: int = 1


def size_of(axis) -> int | None:
    """Units along an axis, given as atoms."""
    return product(atom.size for atom in axis)


def sources_of(axes) -> frozenset:
    """The input axes that these axes follow."""
    return frozenset(atom.source for axis in axes for atom in axis) - {None}


def torn(axes) -> frozenset:
    """The input axes that share one of these axes with another, if one of the two runs along several."""
    along = [sources_of([axis]) for axis in axes]
    several = {s for here in along for s in here if sum(s in there for there in along) > 1}
    return frozenset().union(*(here for here in along if len(here) > 1 and here & several))


def longer_than_one(axis) -> tuple:
    """The atoms of an axis but those of a single channel."""
    return tuple(atom for atom in axis if atom.source is not None or atom.size != 1)


def product(sizes) -> int | None:
    """Of sizes, one of which may be unknown."""
    sizes = list(sizes)
    return None if None in sizes else math.prod(sizes)


def places_of(atoms) -> list[int]:
    """The place in their row of each combination of units of some atoms of one source, the last atom's running first."""
    places = [0]
    for atom in atoms:
        places = [place + unit * atom.step for place in places for unit in range(atom.size)]
    return places


def place_of(atoms, unit: int, source) -> int:
    """How far unit number `unit` along an axis has come in the row of `source`."""
    place = 0
    for atom in reversed(atoms):
        unit, index = divmod(unit, atom.size) if atom.size else (0, unit)
        place += index * atom.step * (atom.source == source)
    return place


def restepped(atoms) -> list[Atom]:
    """Atoms of one row, from the outermost to the innermost, with their steps if there are no others."""
    result, step = [], 1
    for atom in reversed(atoms):
        result.insert(0, Atom(atom.source, atom.size, step))
        step *= atom.size or 1
    return result


def cut(atoms, size):
    """Atoms that make up an axis of `size`, and the rest; (None, None) if no cut gives that size."""
    taken, found = [], 1
    atoms = list(atoms)
    while found != size:
        if not atoms:
            return None, None
        atom = atoms.pop(0)
        if size is None or atom.size is None:
            return ([atom], atoms) if size is None and atom.size is None and not taken else (None, None)
        if found * atom.size > size:
            if size % found or atom.size % (size // found):
                return None, None
            outer = size // found
            inner = atom.size // outer
            atoms.insert(0, Atom(atom.source, inner, atom.step))
            atom = Atom(atom.source, outer, atom.step * inner)
        taken.append(atom)
        found *= atom.size
    return taken, atoms


def coalesced(atoms) -> tuple:
    """Neighbouring parts of one row, or of channels, as one atom."""
    result = []
    for atom in atoms:
        joined = _joined(result[-1], atom) if result else None
        result[-1:] = [joined] if joined else [*result[-1:], atom]
    return tuple(result)


def _joined(outer, inner):
    if outer.source != inner.source or None in (outer.size, inner.size):
        return None
    if outer.source is None:
        return Atom(None, outer.size * inner.size)
    return Atom(outer.source, outer.size * inner.size, inner.step) if outer.step == inner.step * inner.size else None
