"""Which cells of one input axis a unit sees, exactly, for every unit of a row of units.

`keras_cnn.geometry.Field` has one size for all units. Behind an upsampling that is no longer true: units of a decoder
take turns in what they see. So here a row of units has a period, and the cells of one period are listed. That is the
theory, in which rows never end. A row as it is ends, and its units see less at the border: they are listed one by one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate

import numpy as np

from keras_cnn.analysis.fields.taps import Reading, window
from keras_cnn.geometry import Field

NOTHING = (math.inf, -math.inf)
NO_CELL = np.array([[np.iinfo(np.int32).max], [-1]], np.int32)  # of a unit that sees nothing: first and last


@dataclass(frozen=True, eq=False)
class Reach:
    """The cells from the first to the last that each unit of a row sees.

    In an endless row, where padding counts as cells, and with R = len(boxes), unit q * R + p sees the cells
    boxes[p][0] + q * step to boxes[p][1] + q * step.

    Attributes:
        step: Input cells from a unit to the one R units further. 0: every unit sees the same. None: there is no such
            order, or it is unknown.
        boxes: (first, last) of each unit of one period; `NOTHING` for a unit that sees no cell. None: unknown, and
            `step` is that of one unit.
        shifts: What is not known of the position: names of the layers whose "same" padding depends on an unknown size.
        seen: (parts, 2, units): first and last cell of the input that each unit of the row as it is sees, `NO_CELL` for a
            unit that sees none. What a unit sees is the sum of several parts, each the product of what it is along all
            axes: one that is nothing along one axis is nothing at all. None: unknown.
    """

    step: int | None = 1
    boxes: tuple | None = ((0, 0),)
    shifts: tuple = ()
    seen: np.ndarray | None = None

    def at(self, unit):
        """(first, last) cell that a unit of the endless row sees."""
        period, phase = divmod(unit, len(self.boxes))
        first, last = self.boxes[phase]
        return first + period * self.step, last + period * self.step

    def gather(self, reading: Reading, columns) -> Reach:
        """The reach of units of which each reads some of these units.

        Args:
            columns: `reading.columns` for the row as it is, or None.
        """
        seen = None if self.seen is None or columns is None else _seen_through(self.seen, columns)
        if self.step is None or reading.cells is None:
            return Reach(None, None, seen=seen)
        shifts = self.shifts + ((reading.shift,) if reading.shift else ())
        if self.boxes is None:
            return Reach(self.step * Fraction(reading.cells, len(reading.taps)), None, shifts, seen)
        return Reach(*_gathered(self.step, self.boxes, reading.cells, reading.taps), shifts, seen)

    def collapse(self, units: int | None) -> Reach:
        """What all of the first `units` units see together."""
        seen = None if self.seen is None else _spanned(self.seen, axis=(0, 2))
        if units is None or self.boxes is None or self.shifts:
            return Reach(0, None, seen=seen)
        period = len(self.boxes)
        ends = {*range(min(period, units)), *range(max(0, units - period), units)}
        return Reach(0, (_union(map(self.at, ends)),), seen=seen)

    @property
    def key(self) -> tuple:
        """What makes two of these equal."""
        return self.step, self.boxes, self.shifts, None if self.seen is None else self.seen.tobytes()

    @property
    def stride(self):
        """Input cells from one unit to the next: an int, a Fraction behind an upsampling, None if there is no one."""
        if self.step is None:
            return None
        stride = Fraction(self.step, len(self.boxes or (0,)))
        return stride.numerator if stride.denominator == 1 else stride

    @property
    def field(self) -> Field:
        """The reach in three numbers; where units take turns, the largest size and the padding that covers all."""
        if self.step is None or self.boxes is None:
            return Field(None, self.stride, None)
        seen = [(unit, box) for unit, box in enumerate(self.boxes) if box != NOTHING]
        size = max((last - first + 1 for _, (first, last) in seen), default=0)
        padding = max((unit * self.stride - first for unit, (first, _) in seen), default=0)
        return Field(size, self.stride, None if self.shifts else _whole(padding))

    def in_one_part(self, times=1) -> Reach:
        """The same with what the parts of `seen` are together, along this axis alone, in each of so many parts."""
        if self.seen is None or len(self.seen) == times == 1:
            return self
        return replace(self, seen=_spanned(self.seen, axis=0).repeat(times, axis=0))

    def cells(self, unit: int | None, size: int | None) -> np.ndarray | None:
        """(parts, 2): first and last cell of an input of `size` cells that a unit sees; None: not known."""
        if unit is None or (self.seen is None and (self.boxes is None or self.shifts)):
            return None
        if self.seen is not None:
            return self.seen[:, :, unit]
        first, last = self.at(unit)
        return np.array([[max(first, 0), last if size is None else min(last, size - 1)]])


def row_of(units: int | None) -> Reach:
    """The reach of the cells of the input themselves."""
    return Reach(seen=None if units is None else np.tile(np.arange(units, dtype=np.int32), (1, 2, 1)))


def box(reaches, units, sizes) -> tuple:
    """(first, last) cell along each axis that a unit sees; (None, None) if it is not known, or if it sees nothing.

    Args:
        reaches: For each axis, the reach of the row and that of what all units see besides, which counts if there is no
            row, or if it is not known. None for both: nothing is seen.
        units, sizes: For each axis, which unit of the row it is, and how many cells the input has.
    """
    if any(local is None and whole is None for local, whole in reaches):
        return ((None, None),) * len(reaches)
    found = [
        local.cells(unit, size) if local and (not whole or whole.step is not None) else whole.cells(0, size)
        for (local, whole), unit, size in zip(reaches, units, sizes, strict=True)
    ]
    alive = np.all(np.broadcast_arrays(*(cells[:, 0] <= cells[:, 1] for cells in found if cells is not None)), axis=0)
    if not alive.any():
        return ((None, None),) * len(reaches)
    parts = [cells if cells is None or len(cells) < len(alive) else cells[alive] for cells in found]
    return tuple((None, None) if part is None else (int(part[:, 0].min()), int(part[:, 1].max())) for part in parts)


def united(rows) -> tuple:
    """`Reach.seen` along each axis of units that read one unit of each of several tensors.

    Args:
        rows: For each tensor, the reaches of its rows along all axes.
    """
    if any(reach.seen is None for reaches in rows for reach in reaches):
        return (None,) * len(rows[0])
    seen = [
        np.concatenate(parts) for parts in zip(*([reach.seen for reach in reaches] for reaches in rows), strict=True)
    ]
    nothing = [b"".join((row[part, 1] < 0).tobytes() for row in seen) for part in range(len(seen[0]))]
    # Where two parts are nothing for the same units, their sum is a product again.
    alike = [[part for part, one in enumerate(nothing) if one == other] for other in dict.fromkeys(nothing)]
    return tuple(np.concatenate([_spanned(row[parts], axis=0) for parts in alike]) for row in seen)


def union(reaches) -> Reach:
    """What units see that read one unit of each: strides must be equal, but for their signs."""
    reaches = list(dict.fromkeys(reaches))
    first = reaches[0]
    if len(reaches) == 1:
        return first
    (seen,) = united([[reach] for reach in reaches])
    if first.step is None or len({reach.stride for reach in reaches}) > 1:
        return Reach(None, None, seen=seen)
    if any(reach.boxes is None for reach in reaches) or len({reach.shifts for reach in reaches}) > 1:
        return Reach(Fraction(first.stride), None, seen=seen)
    period = math.lcm(*(len(reach.boxes) for reach in reaches))
    boxes = tuple(_union(reach.at(unit) for reach in reaches) for unit in range(period))
    return Reach(first.step * period // len(first.boxes), boxes, first.shifts, seen)


def chain(parts) -> list[Reach | None]:
    """What the units of one row see through each of the rows that it is made of, end to end.

    In theory it is the longest of them gone on with, and the others are its padding: if they are shorter, all together,
    or are what it goes on with.

    Args:
        parts: (reach, units) of each; the reach is None if its units do not follow the axis.
    """
    sizes = [units for _, units in parts]
    if None in sizes:
        return [reach and Reach(None, None) for reach, _ in parts]
    starts = list(accumulate(sizes, initial=0))
    readings = [window(1, before=start) for start in starts]
    rows = [
        reach and reach.gather(reading, reading.columns(units, starts[-1]))
        for (reach, units), reading in zip(parts, readings, strict=False)
    ]
    body = max((place for place, row in enumerate(rows) if row), key=sizes.__getitem__)
    goes_on = 2 * sizes[body] > starts[-1] or all(_equal_in_theory(rows[body], row) for row in rows if row)
    ideal = rows[body] if goes_on else Reach(None, None)
    return [row and replace(ideal, seen=row.seen) for row in rows]


def centres_apart(reaches) -> float:
    """How many cells the middles of what the same unit sees lie apart at most, as far as they are known; 0 if not."""
    known = [reach for reach in reaches if reach.step is not None and reach.boxes is not None]
    if len({reach.shifts for reach in known}) != 1 or len({reach.stride for reach in known}) != 1:
        return 0
    distances = [0]
    for unit in range(math.lcm(*(len(reach.boxes) for reach in known))):
        middles = [sum(box) / 2 for reach in known if (box := reach.at(unit)) != NOTHING]
        distances.append(max(middles, default=0) - min(middles, default=0))
    return max(distances)


def _equal_in_theory(one, other):
    """Whether two endless rows are the same."""
    return (one.step, one.boxes, one.shifts) == (other.step, other.boxes, other.shifts) and one.boxes is not None


def _seen_through(seen, columns):
    """`Reach.seen` of units that read one unit of each column."""
    seen = np.concatenate([seen, np.broadcast_to(NO_CELL, (*seen.shape[:2], 1))], axis=2)  # where `OUTSIDE` points
    firsts, lasts = None, None
    for column in columns:  # one by one: a kernel may be wide
        first, last = seen[:, 0, column], seen[:, 1, column]
        firsts = first if firsts is None else np.minimum(firsts, first)
        lasts = last if lasts is None else np.maximum(lasts, last)
    return np.stack([firsts, lasts], axis=1)


def _spanned(seen, axis):
    """From the first to the last cell along axes of `Reach.seen`, which stay, of size 1."""
    return np.concatenate([seen[:, :1].min(axis, keepdims=True), seen[:, 1:].max(axis, keepdims=True)], axis=1)


@lru_cache(maxsize=4096)
def _gathered(step, boxes, cells, taps):
    rounds = len(boxes) // math.gcd(len(boxes), cells)
    reach, result = Reach(step, boxes), []
    for unit in range(rounds * len(taps)):
        start, phase = divmod(unit, len(taps))
        result.append(_union(reach.at(start * cells + tap) for tap in taps[phase]))
    return _shortest(step * rounds * cells // len(boxes), result)


def _shortest(step, boxes):
    """The same row with the shortest period."""
    for period in range(1, len(boxes)):
        if len(boxes) % period == 0 and step * period % len(boxes) == 0:
            part = step * period // len(boxes)
            short = Reach(part, tuple(boxes[:period]))
            if all(short.at(unit) == box for unit, box in enumerate(boxes)):
                return part, short.boxes
    return step, tuple(boxes)


def _union(boxes):
    firsts, lasts = zip(*boxes, strict=True) if (boxes := list(boxes)) else (NOTHING[:1], NOTHING[1:])
    return min(firsts), max(lasts)


def _whole(number):
    return int(number) if number == int(number) else number
