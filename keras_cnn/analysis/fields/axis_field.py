"""Which cells of one input axis each unit of a sequence sees, exactly.

`keras_cnn.geometry.Field` has one size for all units. After an upsampling that is no longer true: the units of a decoder
alternate in what they see. So a sequence of units has a period here, and the cells of one period are listed. That describes
an endless sequence, as the theory does. A real sequence ends, and its units see less at the border: they are listed one by
one.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from typing import TypeAlias

import numpy as np

from keras_cnn.analysis.fields.taps import Taps, kernel_taps
from keras_cnn.geometry import Field

Number: TypeAlias = int | Fraction
EMPTY = (math.inf, -math.inf)  # the interval of a unit that sees nothing
NO_CELL = np.array([[np.iinfo(np.int32).max], [-1]], np.int32)  # first and last visible cell of such a unit


@dataclass(frozen=True, eq=False)
class AxisField:
    """The interval of cells, from the first to the last, that each unit of a sequence sees along one input axis.

    In an endless sequence, where padding counts as cells, and with P = len(intervals), unit q * P + p sees the cells
    intervals[p][0] + q * step to intervals[p][1] + q * step.

    Attributes:
        step: Input cells from a unit to the one P units further. 0: every unit sees the same. None: there is no such step, or
            it is unknown.
        intervals: (first, last) of each unit of one period; `EMPTY` for a unit that sees no cell. None: unknown, and `step`
            is that from one unit to the next.
        unknown_paddings: Names of the layers whose "same" padding depends on an unknown size, so that the position is not
            known.
        visible_cells: (boxes, 2, units): first and last cell of the input that each unit of the real sequence sees, `NO_CELL`
            for a unit that sees none. What a unit sees is the union of several boxes, each the product of its intervals
            along all axes: a box that is empty along one axis is empty. None: unknown.

    Example: a convolution of 3 after an upsampling by 2. Unit 0 sees the cells -1 to 0, unit 1 only cell 0; from there on both
    repeat, one cell further each time.
        >>> upsampled = input_axis_field(None).gather(Taps(1, ((0,), (0,))), None)
        >>> field = upsampled.gather(kernel_taps(3, before=1), None)
        >>> field.step, field.intervals, field.field
        (1, ((-1, 0), (0, 1)), Field(size=2, stride=Fraction(1, 2), padding=1))
    """

    step: int | None = 1
    intervals: tuple | None = ((0, 0),)
    unknown_paddings: tuple = ()
    visible_cells: np.ndarray | None = None

    def interval(self, unit: int) -> tuple[Number, Number]:
        """(first, last) cell that a unit of the endless sequence sees."""
        period, phase = divmod(unit, len(self.intervals))
        first, last = self.intervals[phase]
        return first + period * self.step, last + period * self.step

    def gather(self, taps: Taps, indices: Iterable[np.ndarray] | None) -> AxisField:
        """The field of units that each read some of these units.

        Args:
            taps: Which ones, in the endless sequence.
            indices: Which ones, in the real sequence: `taps.indices`, or None if its length is not known.
        """
        visible = None if self.visible_cells is None or indices is None else _gather_cells(self.visible_cells, indices)
        if self.step is None or taps.step is None:
            return AxisField(None, None, visible_cells=visible)
        paddings = self.unknown_paddings + ((taps.unknown_padding,) if taps.unknown_padding else ())
        if self.intervals is None:
            return AxisField(self.step * Fraction(taps.step, len(taps.offsets)), None, paddings, visible)
        step, intervals = _gather_intervals(self.step, self.intervals, taps.step, taps.offsets)
        return AxisField(step, intervals, paddings, visible)

    def collapse(self, units: int | None) -> AxisField:
        """What all of the first `units` units see together."""
        visible = None if self.visible_cells is None else _span(self.visible_cells, axis=(0, 2))
        if units is None or self.intervals is None or self.unknown_paddings:
            return AxisField(0, None, visible_cells=visible)
        period = len(self.intervals)
        ends = {*range(min(period, units)), *range(max(0, units - period), units)}
        return AxisField(0, (_hull(map(self.interval, ends)),), visible_cells=visible)

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Equal for two fields that are equal."""
        visible = None if self.visible_cells is None else self.visible_cells.tobytes()
        return self.step, self.intervals, self.unknown_paddings, visible

    @property
    def stride(self) -> Number | None:
        """Input cells from one unit to the next: an int, a Fraction after an upsampling, None if there is no such number."""
        if self.step is None:
            return None
        stride = Fraction(self.step, len(self.intervals or (0,)))
        return stride.numerator if stride.denominator == 1 else stride

    @property
    def field(self) -> Field:
        """The field in three numbers; where units alternate, the largest size and the padding that covers all of them."""
        if self.step is None or self.intervals is None:
            return Field(None, self.stride, None)
        seeing = [(unit, interval) for unit, interval in enumerate(self.intervals) if interval != EMPTY]
        size = max((last - first + 1 for _, (first, last) in seeing), default=0)
        padding = max((unit * self.stride - first for unit, (first, _) in seeing), default=0)
        return Field(size, self.stride, None if self.unknown_paddings else _int_if_whole(padding))

    def in_one_box(self, repeats: int = 1) -> AxisField:
        """The same with one box around the boxes of each unit, along this axis alone, repeated so many times."""
        if self.visible_cells is None or len(self.visible_cells) == repeats == 1:
            return self
        return replace(self, visible_cells=_span(self.visible_cells, axis=0).repeat(repeats, axis=0))

    def boxes(self, unit: int | None, input_size: int | None) -> np.ndarray | None:
        """(boxes, 2): first and last cell of an input of `input_size` cells that a unit sees; None: not known."""
        if unit is None or (self.visible_cells is None and (self.intervals is None or self.unknown_paddings)):
            return None
        if self.visible_cells is not None:
            return self.visible_cells[:, :, unit]
        first, last = self.interval(unit)
        return np.array([[max(first, 0), last if input_size is None else min(last, input_size - 1)]])


def input_axis_field(units: int | None) -> AxisField:
    """The field of the cells of the input themselves."""
    return AxisField(visible_cells=None if units is None else np.tile(np.arange(units, dtype=np.int32), (1, 2, 1)))


def visible_box(
    axis_fields: Sequence[tuple[AxisField | None, AxisField | None]],
    units: Sequence[int | None],
    input_sizes: Sequence[int | None],
) -> tuple[tuple[int | None, int | None], ...]:
    """(first, last) cell along each axis that a unit sees; (None, None) if it is not known, or if it sees nothing.

    Args:
        axis_fields: For each axis, the local field and the global one, which counts if there is no local one, or if it is not
            known. None for both: nothing is seen.
        units: For each axis, the index of the unit in its sequence.
        input_sizes: For each axis, how many cells the input has.
    """
    nothing = ((None, None),) * len(axis_fields)
    if any(local is None and global_ is None for local, global_ in axis_fields):
        return nothing
    found = [
        local.boxes(unit, size) if local and (not global_ or global_.step is not None) else global_.boxes(0, size)
        for (local, global_), unit, size in zip(axis_fields, units, input_sizes, strict=True)
    ]
    in_use = np.all(np.broadcast_arrays(*(cells[:, 0] <= cells[:, 1] for cells in found if cells is not None)), axis=0)
    if not in_use.any():
        return nothing
    boxes = [cells if cells is None or len(cells) < len(in_use) else cells[in_use] for cells in found]
    return tuple((None, None) if cells is None else (int(cells[:, 0].min()), int(cells[:, 1].max())) for cells in boxes)


def union_of_visible_cells(fields_by_tensor: Sequence[Sequence[AxisField]]) -> tuple[np.ndarray | None, ...]:
    """`AxisField.visible_cells` along each axis of units that read one unit of each of several tensors.

    Args:
        fields_by_tensor: For each tensor, its fields along all axes.
    """
    if any(field.visible_cells is None for fields in fields_by_tensor for field in fields):
        return (None,) * len(fields_by_tensor[0])
    by_tensor = ([field.visible_cells for field in fields] for fields in fields_by_tensor)
    visible = [np.concatenate(boxes) for boxes in zip(*by_tensor, strict=True)]
    empty = [b"".join((cells[box, 1] < 0).tobytes() for cells in visible) for box in range(len(visible[0]))]
    # Where two boxes are empty for the same units, the box around both is a product again.
    alike = [[box for box, one in enumerate(empty) if one == other] for other in dict.fromkeys(empty)]
    return tuple(np.concatenate([_span(cells[boxes], axis=0) for boxes in alike]) for cells in visible)


def union(axis_fields: Iterable[AxisField]) -> AxisField:
    """What units see that read one unit of each; the strides must be equal, except for their signs."""
    axis_fields = list(dict.fromkeys(axis_fields))
    first = axis_fields[0]
    if len(axis_fields) == 1:
        return first
    (visible,) = union_of_visible_cells([[field] for field in axis_fields])
    if first.step is None or len({field.stride for field in axis_fields}) > 1:
        return AxisField(None, None, visible_cells=visible)
    if (
        any(field.intervals is None for field in axis_fields)
        or len({field.unknown_paddings for field in axis_fields}) > 1
    ):
        return AxisField(Fraction(first.stride), None, visible_cells=visible)
    period = math.lcm(*(len(field.intervals) for field in axis_fields))
    intervals = tuple(_hull(field.interval(unit) for field in axis_fields) for unit in range(period))
    return AxisField(first.step * period // len(first.intervals), intervals, first.unknown_paddings, visible)


def concatenated(pieces: Sequence[tuple[AxisField | None, int | None]]) -> list[AxisField | None]:
    """What the units of one sequence see through each of the pieces that it is made of, end to end.

    In theory it is the longest piece, continued, with the other pieces as its padding: if they are shorter, all together, or
    are what the longest piece continues with.

    Args:
        pieces: (field, units) of each; the field is None if its units do not follow the axis.
    """
    sizes = [units for _, units in pieces]
    if None in sizes:
        return [field and AxisField(None, None) for field, _ in pieces]
    starts = list(accumulate(sizes, initial=0))
    taps = [kernel_taps(1, before=start) for start in starts]
    shifted = [
        field and field.gather(shift, shift.indices(units, starts[-1]))
        for (field, units), shift in zip(pieces, taps, strict=False)
    ]
    longest = max((index for index, field in enumerate(shifted) if field), key=sizes.__getitem__)
    others_continue_it = all(_equal_in_theory(shifted[longest], field) for field in shifted if field)
    theory = shifted[longest] if 2 * sizes[longest] > starts[-1] or others_continue_it else AxisField(None, None)
    return [field and replace(theory, visible_cells=field.visible_cells) for field in shifted]


def centre_distance(axis_fields: Iterable[AxisField]) -> float:
    """How many cells the centres of what the same unit sees lie apart at most; 0 where they are not known."""
    known = [field for field in axis_fields if field.step is not None and field.intervals is not None]
    if len({field.unknown_paddings for field in known}) != 1 or len({field.stride for field in known}) != 1:
        return 0
    distances = [0]
    for unit in range(math.lcm(*(len(field.intervals) for field in known))):
        centres = [sum(interval) / 2 for field in known if (interval := field.interval(unit)) != EMPTY]
        distances.append(max(centres, default=0) - min(centres, default=0))
    return max(distances)


def _equal_in_theory(one, other):
    """Whether two endless sequences see the same."""
    same = (one.step, one.intervals, one.unknown_paddings) == (other.step, other.intervals, other.unknown_paddings)
    return same and one.intervals is not None


def _gather_cells(visible, indices):
    """`AxisField.visible_cells` of units that read one unit for each tap."""
    # A unit that sees nothing at the end is where `OUTSIDE` points to.
    visible = np.concatenate([visible, np.broadcast_to(NO_CELL, (*visible.shape[:2], 1))], axis=2)
    firsts = None
    lasts = None
    for tap in indices:  # one by one: a kernel may be wide
        first = visible[:, 0, tap]
        last = visible[:, 1, tap]
        firsts = first if firsts is None else np.minimum(firsts, first)
        lasts = last if lasts is None else np.maximum(lasts, last)
    return np.stack([firsts, lasts], axis=1)


def _span(visible, axis):
    """From the first to the last cell along axes of `AxisField.visible_cells`, which stay, with size 1."""
    return np.concatenate([visible[:, :1].min(axis, keepdims=True), visible[:, 1:].max(axis, keepdims=True)], axis=1)


@lru_cache(maxsize=4096)
def _gather_intervals(step, intervals, taps_step, offsets):
    """(step, intervals) of units that read units of an endless sequence."""
    periods = len(intervals) // math.gcd(len(intervals), taps_step)
    field = AxisField(step, intervals)
    result = []
    for unit in range(periods * len(offsets)):
        start, phase = divmod(unit, len(offsets))
        result.append(_hull(field.interval(start * taps_step + offset) for offset in offsets[phase]))
    return _with_shortest_period(step * periods * taps_step // len(intervals), result)


def _with_shortest_period(step, intervals):
    for period in range(1, len(intervals)):
        if len(intervals) % period == 0 and step * period % len(intervals) == 0:
            shorter = AxisField(step * period // len(intervals), tuple(intervals[:period]))
            if all(shorter.interval(unit) == interval for unit, interval in enumerate(intervals)):
                return shorter.step, shorter.intervals
    return step, tuple(intervals)


def _hull(intervals):
    """The smallest interval that holds all of these."""
    firsts, lasts = zip(*intervals, strict=True) if (intervals := list(intervals)) else (EMPTY[:1], EMPTY[1:])
    return min(firsts), max(lasts)


def _int_if_whole(number):
    return int(number) if number == int(number) else number
