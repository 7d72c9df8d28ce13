"""The parts of a tensor's axes: which input axes they follow, and how reshapes split and join them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias


class AxisPart(NamedTuple):
    """A factor of a tensor axis, or all of it. An axis is the row-major product of its parts.

    Attributes:
        input_axis: The axis of the model's input that it follows; None if it follows none, as channels do.
        size: Units along it; None if unknown.
        step: How many units of the sequence that follows `input_axis` lie from one unit of the part to the next: 1, unless
            a reshape split the sequence.

    Example: after six cells of input axis 0 became 3 x 2 units, this is the axis of 3. From one of its units to the next the
    sequence advances by two cells.
        >>> AxisPart(input_axis=0, size=3, step=2)
        AxisPart(input_axis=0, size=3, step=2)
    """

    input_axis: int | None
    size: int | None
    step: int = 1


Axis: TypeAlias = tuple[AxisPart, ...]


def plain_axis(size: int | None) -> Axis:
    """An axis of `size` units that follows no input axis."""
    return (AxisPart(None, size),)


def axis_size(parts: Iterable[AxisPart]) -> int | None:
    """Units along an axis, given as its parts."""
    return product(part.size for part in parts)


def input_axes_of(axes: Iterable[Iterable[AxisPart]]) -> frozenset[int]:
    """The input axes that these axes follow."""
    return frozenset(part.input_axis for axis in axes for part in axis) - {None}


def overlapping_input_axes(axes: Iterable[Iterable[AxisPart]]) -> frozenset[int]:
    """The input axes that share one of these axes with another, if one of the two is followed by several of these axes."""
    followed = [input_axes_of([axis]) for axis in axes]
    split = {one for here in followed for one in here if sum(one in there for there in followed) > 1}
    return frozenset().union(*(here for here in followed if len(here) > 1 and here & split))


def without_single_channels(parts: Iterable[AxisPart]) -> Axis:
    """The parts of an axis that follow an input axis or have more than one unit."""
    return tuple(part for part in parts if part.input_axis is not None or part.size != 1)


def product(sizes: Iterable[int | None]) -> int | None:
    """The product of sizes; None if one of them is unknown."""
    sizes = list(sizes)
    return None if None in sizes else math.prod(sizes)


def sequence_offsets(parts: Iterable[AxisPart]) -> list[int]:
    """The offset in their sequence of each combination of units of some parts; the last part varies fastest."""
    offsets = [0]
    for part in parts:
        offsets = [offset + unit * part.step for offset in offsets for unit in range(part.size)]
    return offsets


def sequence_index(parts: Sequence[AxisPart], unit: int, input_axis: int) -> int:
    """The index in the sequence that follows `input_axis` of the unit at index `unit` of an axis."""
    index = 0
    for part in reversed(parts):
        unit, within = divmod(unit, part.size) if part.size else (0, unit)
        index += within * part.step * (part.input_axis == input_axis)
    return index


def with_contiguous_steps(parts: Sequence[AxisPart]) -> list[AxisPart]:
    """The parts of one sequence, outermost first, with the steps that they have if there are no other parts."""
    result = []
    step = 1
    for part in reversed(parts):
        result.insert(0, AxisPart(part.input_axis, part.size, step))
        step *= part.size or 1
    return result


def split_parts(
    parts: Iterable[AxisPart], size: int | None
) -> tuple[list[AxisPart], list[AxisPart]] | tuple[None, None]:
    """The first parts, which make up an axis of `size`, and the rest; (None, None) if no split gives that size.

    Example:
        >>> split_parts([AxisPart(0, 6)], 3)
        ([AxisPart(input_axis=0, size=3, step=2)], [AxisPart(input_axis=0, size=2, step=1)])
    """
    taken = []
    taken_size = 1
    rest = list(parts)
    while taken_size != size:
        if not rest:
            return None, None
        part = rest.pop(0)
        if size is None or part.size is None:
            return ([part], rest) if size is None and part.size is None and not taken else (None, None)
        if taken_size * part.size > size:
            if size % taken_size or part.size % (size // taken_size):
                return None, None
            outer_size = size // taken_size
            inner_size = part.size // outer_size
            rest.insert(0, AxisPart(part.input_axis, inner_size, part.step))
            part = AxisPart(part.input_axis, outer_size, part.step * inner_size)
        taken.append(part)
        taken_size *= part.size
    return taken, rest


def coalesced(parts: Iterable[AxisPart]) -> Axis:
    """The parts of an axis, with neighbours joined where they are one piece of a sequence, or are both channels."""
    result = []
    for part in parts:
        joined = _join(result[-1], part) if result else None
        result[-1:] = [joined] if joined else [*result[-1:], part]
    return tuple(result)


def _join(outer: AxisPart, inner: AxisPart) -> AxisPart | None:
    if outer.input_axis != inner.input_axis or None in (outer.size, inner.size):
        return None
    size = outer.size * inner.size
    if outer.input_axis is None:
        return AxisPart(None, size)
    return AxisPart(outer.input_axis, size, inner.step) if outer.step == inner.step * inner.size else None
