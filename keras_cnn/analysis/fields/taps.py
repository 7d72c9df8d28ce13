"""Which units of a row each unit of the next one reads: kernels, resampling, slices, and what stands beyond the border."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np

OUTSIDE = -1
# What stands beyond the border: how NumPy pads the numbers of the cells.
PADS = {
    "zeros": {"constant_values": OUTSIDE},
    "reflect": {"mode": "reflect"},
    "symmetric": {"mode": "symmetric"},
    "replicate": {"mode": "edge"},
    "circular": {"mode": "wrap"},
}
# How many cells to each side a resampling kernel spans; it is zero at whole distances but 0.
SPANS = {"bilinear": 1, "bicubic": 2, "lanczos3": 3, "lanczos5": 5}


class Reading(NamedTuple):
    """What each unit of a new row reads of the units of a row.

    With R = len(taps), unit q * R + p reads the units q * cells + t for all t in taps[p].

    Attributes:
        cells: How many units of the row go by for each R of the new ones. None: the new units stand in no such order,
            and `taps` lists them all.
        taps: For each of R new units, the units that it reads.
        border: What stands beyond the ends of the row, a key of `PADS`.
        shift: Name of the layer, if all taps may lie a few units beside this by a padding that is not known.
    """

    cells: int | None
    taps: tuple
    border: str = "zeros"
    shift: str | None = None

    def columns(self, units: int, count: int):
        """For each tap, the unit of a row of `units` that each of `count` new ones reads; `OUTSIDE`: none."""
        width, place = max(1, *map(len, self.taps)), np.arange(count)
        row = [taps + (taps[-1:] or (None,)) * (width - len(taps)) for taps in self.taps]
        starts, phases = place // len(row) * (self.cells or 0), place % len(row)
        for tap in zip(*row, strict=True):
            missing = np.array([one is None for one in tap])
            found = starts + np.array([one or 0 for one in tap])[phases]
            found = _within(found, units, self.border)
            yield np.where(missing[phases], OUTSIDE, found) if missing.any() else found


def _within(found, units, border):
    """Numbers of units, of which those beyond the border are `OUTSIDE`, or units that stand there in their place."""
    before, after = max(-int(found.min()), 0), max(int(found.max()) - units + 1, 0)
    return np.pad(np.arange(units), (before, after), **PADS[border])[found + before] if before or after else found


IDENTITY = Reading(1, ((0,),))


def window(kernel_size, strides=1, before=0, dilation_rate=1, border="zeros", shift=None) -> Reading:
    """A kernel: unit i reads i * strides - before + k * dilation_rate for all k."""
    return Reading(strides, (tuple(k * dilation_rate - before for k in range(kernel_size)),), border, shift)


def transposed_window(kernel_size, strides=1, crop=0, dilation_rate=1, shift=None) -> Reading:
    """A transposed kernel, of which `crop` units are cut off before the first."""
    places = [[unit + crop - k * dilation_rate for k in range(kernel_size)] for unit in range(strides)]
    taps = tuple(tuple(place // strides for place in row if place % strides == 0) for row in places)
    return Reading(1, taps, shift=shift)


def transposed(columns, units) -> Reading:
    """What the `units` units that the columns read would read of their readers, in the transpose of a linear map."""
    readers = [[] for _ in range(units)]
    for column in columns:
        for reader, unit in enumerate(column.tolist()):
            readers[unit].append(reader)
    return Reading(None, tuple(map(tuple, readers)))


def resampling(size, new_size, interpolation, antialias=False) -> Reading:
    """An interpolation with half-pixel centres.

    Args:
        antialias: Whether the kernel grows with the distance of the new units, where that is above 1.
    """
    divisor = math.gcd(size, new_size)
    cells, units = size // divisor, new_size // divisor
    # Unit i stands at (i + 1/2) * cells / units - 1/2.
    places = [Fraction((2 * unit + 1) * cells, 2 * units) - Fraction(1, 2) for unit in range(units)]
    if interpolation == "nearest":
        return Reading(cells, tuple((math.floor(place + Fraction(1, 2)),) for place in places))
    scale = max(Fraction(cells, units), 1) if antialias else Fraction(1)
    return Reading(cells, tuple(_under_kernel(place, scale, SPANS[interpolation]) for place in places))


def _under_kernel(place, scale, span):
    """The cells on which a resampling kernel about `place` is not zero."""
    first, last = math.floor(place - span * scale) + 1, math.ceil(place + span * scale) - 1
    distances = {cell: (cell - place) / scale for cell in range(first, last + 1)}
    return tuple(cell for cell, distance in distances.items() if not distance or distance.denominator > 1)


def listed(units) -> Reading:
    """Unit i reads units[i]."""
    steps = {after - before for before, after in pairwise(units)}
    if len(steps) > 1:
        return Reading(None, tuple((unit,) for unit in units))
    return Reading(steps.pop() if steps else 1, ((units[0],),))
