"""Which cells of one input axis a unit sees, exactly, for every unit of a row of units.

`keras_cnn.geometry.Field` has one size for all units. Behind an upsampling that is no longer true: units of a decoder
take turns in what they see. So here a row of units has a period, and the cells of one period are listed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from keras_cnn.geometry import Field

NOTHING = (math.inf, -math.inf)


@dataclass(frozen=True)
class Reach:
    """The cells from the first to the last that each unit of an infinite row sees; padding counts as cells.

    With R = len(boxes), unit q * R + p sees the cells boxes[p][0] + q * step to boxes[p][1] + q * step.

    Args:
        step: Input cells from a unit to the one R units further. 0: every unit sees the same. None: unknown.
        boxes: (first, last) of each unit of one period; `NOTHING` for a unit that sees no cell. None: unknown, and
            `step` is that of one unit.
        shifts: What is not known of the position: names of the layers whose "same" padding depends on an unknown size.
    """

    step: int | None = 1
    boxes: tuple | None = ((0, 0),)
    shifts: tuple = ()

    def at(self, unit):
        """(first, last) cell that a unit sees."""
        period, phase = divmod(unit, len(self.boxes))
        first, last = self.boxes[phase]
        return first + period * self.step, last + period * self.step

    def gather(self, cells: int, taps: tuple, shift: str | None = None) -> Reach:
        """The reach of units of which each reads some of these units.

        Args:
            cells: How many of these units go by for each `len(taps)` of the new ones.
            taps: For each of the new units, the units that it reads.
            shift: Name of the layer, if all taps may lie a few units beside this by its padding.
        """
        if self.step is None or self.step == 0:
            return self
        shifts = self.shifts + ((shift,) if shift else ())
        if self.boxes is None:
            return Reach(self.step * Fraction(cells, len(taps)), None, shifts)
        step, boxes = _gathered(self.step, self.boxes, cells, taps)
        return Reach(step, boxes, shifts)

    def collapse(self, units: int | None) -> Reach:
        """What all of the first `units` units see together."""
        if self.step is None or self.step == 0:
            return self
        if units is None or self.boxes is None or self.shifts:
            return Reach(0, None)
        period = len(self.boxes)
        ends = {*range(min(period, units)), *range(max(0, units - period), units)}
        return Reach(0, (_union(map(self.at, ends)),))

    @property
    def stride(self):
        """Input cells from one unit to the next: an int, a Fraction behind an upsampling, None if unknown."""
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


def union(reaches) -> Reach:
    """What units see that read one unit of each: strides must be equal."""
    reaches = list(dict.fromkeys(reaches))
    first = reaches[0]
    if len(reaches) == 1:
        return first
    if any(reach.step is None for reach in reaches):
        return Reach(None, None)
    if any(reach.boxes is None for reach in reaches) or len({reach.shifts for reach in reaches}) > 1:
        return Reach(Fraction(first.stride), None)
    period = math.lcm(*(len(reach.boxes) for reach in reaches))
    boxes = tuple(_union(reach.at(unit) for reach in reaches) for unit in range(period))
    return Reach(first.step * period // len(first.boxes), boxes, first.shifts)


def centres_differ(reaches) -> bool:
    """Whether the middles of what the same unit sees differ, as far as they are known."""
    known = [reach for reach in reaches if reach.step is not None and reach.boxes is not None]
    if len({reach.shifts for reach in known}) != 1:
        return False
    period = math.lcm(*(len(reach.boxes) for reach in known))
    return any(len({sum(box) for reach in known if (box := reach.at(unit)) != NOTHING}) > 1 for unit in range(period))


def window(kernel_size, strides=1, before=0, dilation_rate=1):
    """Arguments of `gather` for a kernel: unit i reads i * strides - before + k * dilation_rate for all k."""
    return strides, (tuple(k * dilation_rate - before for k in range(kernel_size)),)


def transposed_window(kernel_size, strides=1, crop=0, dilation_rate=1):
    """Arguments of `gather` for a transposed kernel, of which `crop` units are cut off before the first."""
    places = [[unit + crop - k * dilation_rate for k in range(kernel_size)] for unit in range(strides)]
    return 1, tuple(tuple(place // strides for place in row if place % strides == 0) for row in places)


def resampling(size, new_size, interpolation):
    """Arguments of `gather` for an interpolation with half-pixel centres, without antialiasing."""
    divisor = math.gcd(size, new_size)
    cells, units = size // divisor, new_size // divisor
    # Unit i stands at (i + 1/2) * cells / units - 1/2.
    places = [Fraction((2 * unit + 1) * cells, 2 * units) - Fraction(1, 2) for unit in range(units)]
    if interpolation == "nearest":
        return cells, tuple((math.floor(place + Fraction(1, 2)),) for place in places)
    beside = {"bilinear": 1, "bicubic": 2}[interpolation]
    rows = [
        (place.numerator,)
        if place.denominator == 1
        else range(math.floor(place) - beside + 1, math.floor(place) + beside + 1)
        for place in places
    ]
    return cells, tuple(map(tuple, rows))


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
