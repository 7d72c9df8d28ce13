"""Which units of a sequence each unit of the next one reads: kernels, resampling, slices, and what lies beyond the border."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np

OUTSIDE = -1
# What lies beyond the border: how NumPy pads the indices of the cells.
NUMPY_PADDING = {
    "zeros": {"constant_values": OUTSIDE},
    "reflect": {"mode": "reflect"},
    "symmetric": {"mode": "symmetric"},
    "replicate": {"mode": "edge"},
    "circular": {"mode": "wrap"},
}
# How many cells to each side a resampling kernel spans; it is zero at all whole distances other than 0.
KERNEL_RADIUS = {"bilinear": 1, "bicubic": 2, "lanczos3": 3, "lanczos5": 5}


class Taps(NamedTuple):
    """Which units of a sequence each unit of a new sequence reads.

    With P = len(offsets), the new unit q * P + p reads the units q * step + offset for each offset in offsets[p].

    Attributes:
        step: How many units of the sequence correspond to P new ones. None: the new units are in no such order, and
            `offsets` lists all of them.
        offsets: For each of P new units, the units that it reads.
        border: What lies beyond the ends of the sequence, a key of `NUMPY_PADDING`.
        unknown_padding: Name of the layer, if a padding that is not known may shift all offsets by a few units.

    Example: a kernel of 3 with stride 2 and one cell of padding; unit 0 reads the cells -1, 0 and 1.
        >>> kernel_taps(3, strides=2, before=1)
        Taps(step=2, offsets=((-1, 0, 1),), border='zeros', unknown_padding=None)
        >>> [tap.tolist() for tap in kernel_taps(3, strides=2, before=1).indices(units=5, count=3)]
        [[-1, 1, 3], [0, 2, 4], [1, 3, -1]]
    """

    step: int | None
    offsets: tuple[tuple[int, ...], ...]
    border: str = "zeros"
    unknown_padding: str | None = None

    def indices(self, units: int, count: int) -> Iterator[np.ndarray]:
        """For each tap, the index in a sequence of `units` that each of `count` new units reads; `OUTSIDE` for none."""
        width = max(1, *map(len, self.offsets))
        unit = np.arange(count)
        # Units that read less than others repeat their last tap.
        padded = [offsets + (offsets[-1:] or (None,)) * (width - len(offsets)) for offsets in self.offsets]
        starts = unit // len(padded) * (self.step or 0)
        phases = unit % len(padded)
        for tap in zip(*padded, strict=True):
            missing = np.array([offset is None for offset in tap])
            found = starts + np.array([offset or 0 for offset in tap])[phases]
            found = _with_border(found, units, self.border)
            yield np.where(missing[phases], OUTSIDE, found) if missing.any() else found


def _with_border(indices, units, border):
    """Indices, of which those beyond the border become `OUTSIDE`, or the unit that the padding copies there."""
    before = max(-int(indices.min()), 0)
    after = max(int(indices.max()) - units + 1, 0)
    if not before and not after:
        return indices
    return np.pad(np.arange(units), (before, after), **NUMPY_PADDING[border])[indices + before]


IDENTITY = Taps(1, ((0,),))


def kernel_taps(
    kernel_size: int,
    strides: int = 1,
    before: int = 0,
    dilation_rate: int = 1,
    border: str = "zeros",
    unknown_padding: str | None = None,
) -> Taps:
    """A kernel: unit i reads i * strides - before + k * dilation_rate for all k."""
    offsets = tuple(k * dilation_rate - before for k in range(kernel_size))
    return Taps(strides, (offsets,), border, unknown_padding)


def transposed_kernel_taps(
    kernel_size: int, strides: int = 1, crop: int = 0, dilation_rate: int = 1, unknown_padding: str | None = None
) -> Taps:
    """A transposed kernel, whose first `crop` units are cut off."""
    positions = [[unit + crop - k * dilation_rate for k in range(kernel_size)] for unit in range(strides)]
    offsets = tuple(tuple(position // strides for position in row if position % strides == 0) for row in positions)
    return Taps(1, offsets, unknown_padding=unknown_padding)


def transposed_taps(indices: Iterable[np.ndarray], units: int) -> Taps:
    """The transpose of a linear map: what `units` units read of the units that read them, given as `Taps.indices`."""
    readers = [[] for _ in range(units)]
    for tap in indices:
        for reader, unit in enumerate(tap.tolist()):
            readers[unit].append(reader)
    return Taps(None, tuple(map(tuple, readers)))


def resampling_taps(size: int, new_size: int, interpolation: str, antialias: bool = False) -> Taps:
    """An interpolation with half-pixel centres.

    Args:
        size: Units of the sequence.
        new_size: Units of the new sequence.
        interpolation: "nearest", or a key of `KERNEL_RADIUS`.
        antialias: Whether the kernel grows with the distance of the new units, where that is above 1.
    """
    divisor = math.gcd(size, new_size)
    cells = size // divisor
    units = new_size // divisor
    # Unit i lies at (i + 1/2) * cells / units - 1/2.
    centres = [Fraction((2 * unit + 1) * cells, 2 * units) - Fraction(1, 2) for unit in range(units)]
    if interpolation == "nearest":
        return Taps(cells, tuple((math.floor(centre + Fraction(1, 2)),) for centre in centres))
    scale = max(Fraction(cells, units), 1) if antialias else Fraction(1)
    return Taps(cells, tuple(_cells_under_kernel(centre, scale, KERNEL_RADIUS[interpolation]) for centre in centres))


def _cells_under_kernel(centre, scale, radius):
    """The cells on which a resampling kernel around `centre` is not zero."""
    first = math.floor(centre - radius * scale) + 1
    last = math.ceil(centre + radius * scale) - 1
    distances = {cell: (cell - centre) / scale for cell in range(first, last + 1)}
    return tuple(cell for cell, distance in distances.items() if not distance or distance.denominator > 1)


def listed_taps(units: Sequence[int]) -> Taps:
    """Unit i reads units[i]."""
    steps = {after - before for before, after in pairwise(units)}
    if len(steps) > 1:
        return Taps(None, tuple((unit,) for unit in units))
    return Taps(steps.pop() if steps else 1, ((units[0],),))
