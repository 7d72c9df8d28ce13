"""A network as lines of text, with its connections: the lower part of the picture of an analysis."""

from __future__ import annotations

import math

from keras_cnn.analysis.drawing.style import BLUE, FAINT, GREEN, INK, ORANGE
from keras_cnn.analysis.formatting import WHOLE, elided, field_text, shape_text, short

# Places within a column of lines, and sizes, in inches.
NUMBER, SPINE, NAME, KIND, OUTPUT, FIELD, MACS, PARAMETERS, COLUMN = 0.25, 1.05, 1.2, 3.35, 6.3, 7.45, 7.6, 8.8, 10.1
LINE, HEAD, BAR, LANE = 0.235, 0.35, 0.6, 0.13
LANES, IN_ONE_COLUMN = 5, 45
NAME_ROOM, KIND_ROOM = 26, 34  # characters


def columns_for(number: int, above: float) -> tuple[int, int]:
    """(columns, lines in each) for so many lines, so that with `above` inches on top the page is half as wide again as high."""

    def off(columns):
        height = above + HEAD + LINE * math.ceil(number / columns)
        return abs(math.log(columns * COLUMN / height / 1.5))

    columns = 1 if number <= IN_ONE_COLUMN else min(range(1, number + 1), key=off)
    return columns, math.ceil(number / columns)


def draw(axes, lines, each: int, top: float) -> None:
    """Draw all lines, `each` of them in a column, from `top` inches downwards on axes measured in inches."""
    spots = [(place // each * COLUMN, top + HEAD + LINE * (place % each + 0.5)) for place in range(len(lines))]
    for left in sorted({left for left, _ in spots}):
        _heads(axes, left, top + HEAD / 2)
    far = _edges(axes, lines, spots, each)
    most = {name: max((line.total(name) or 0 for line in lines), default=0) for name in ("macs", "parameters")}
    for place, (line, (left, y)) in enumerate(zip(lines, spots, strict=True)):
        _text(axes, left + NUMBER, y, str(place + 1), size=6.5, color=FAINT, ha="right")
        _name(axes, left, y, line, far.get(place, ()))
        _text(axes, left + OUTPUT, y, shape_text(line.output_shape), size=7.5, ha="right")
        if line.rows:
            _numbers(axes, left, y, line, most)


def _heads(axes, left, y):
    for x, text, color, side in (
        (NAME, "layer", FAINT, "left"),
        (OUTPUT, "output", FAINT, "right"),
        (FIELD, "field / stride", GREEN, "right"),
        (MACS, "MACs", BLUE, "left"),
        (PARAMETERS, "parameters", ORANGE, "left"),
    ):
        _text(axes, left + x, y, text, color=color, ha=side)


def _name(axes, left, y, line, far):
    """Name and kinds; behind the name the numbers of lines that it takes besides, of which no line is drawn."""
    numbers = ", ".join(str(place + 1) for place in far[:3])
    takes = numbers and f"← {numbers}" + (f" + {len(far) - 3}" if len(far) > 3 else "")
    _text(
        axes, left + NAME, y, elided(line.name, NAME_ROOM - len(takes)), weight="bold" if line.total("macs") else None
    )
    _text(axes, left + KIND - 0.1, y, takes, size=7, color=BLUE, ha="right")
    kinds = " · ".join(row.kind.replace("Normalization", "Norm") for row in line.rows) or "input"
    _text(axes, left + KIND, y, elided(kinds, KIND_ROOM), size=7, color=FAINT)


def _numbers(axes, left, y, line, most):
    row = line.rows[-1]
    size, stride, _ = field_text(row)
    size = size.removesuffix(WHOLE)
    sign = ("≠ " if any(row.misaligned for row in line.rows) else "") + ("+ " if row.global_field else "")
    _text(axes, left + FIELD, y, f"{sign}{size} / {stride}" if stride else size, size=7.5, color=GREEN, ha="right")
    for x, name, color in ((MACS, "macs", BLUE), (PARAMETERS, "parameters", ORANGE)):
        value = line.total(name)
        if value != 0:
            length = BAR * value / most[name] if value else 0
            axes.barh(y, length, height=0.13, left=left + x, color=color)
            _text(axes, left + x + length + 0.05, y, short(value), size=7)


def _edges(axes, lines, spots, each):
    """Straight to the next line, in an arc past others of the column; gives the sources of each line that were not drawn."""
    lanes, far = {}, {}
    for place, line in enumerate(lines):
        left, y = spots[place]
        for source in sorted(line.sources, reverse=True):
            lane = _lane(lanes.setdefault(left, []), source)
            if source == place - 1 and source // each == place // each:
                axes.plot([left + SPINE] * 2, [spots[source][1], y], color=FAINT, linewidth=1.1, zorder=1)
            elif source == place - 1:  # from the foot of a column to the head of the next
                for x, end, way in ((spots[source][0], spots[source][1], 0.2), (left, y, -0.2)):
                    axes.plot([x + SPINE] * 2, [end, end + way], color=FAINT, linewidth=1.1, linestyle=":", zorder=1)
            elif source // each == place // each and lane < LANES:
                lanes[left][lane : lane + 1] = [place]
                x, above = left + SPINE - LANE * (lane + 1), spots[source][1]
                xs = [left + SPINE, x, x, left + SPINE]
                axes.plot(xs, [above, above + 0.09, y - 0.09, y], color=BLUE, linewidth=0.9, alpha=0.7, zorder=1)
            else:
                far[place] = (*far.get(place, ()), source)
        if line.sources or not line.rows:
            axes.plot([left + SPINE], [y], "o", color=INK, markersize=3, zorder=2)
    return far


def _lane(ends, source):
    """The first lane that no arc is in any more."""
    return next((lane for lane, end in enumerate(ends) if end <= source), len(ends))


def _text(axes, x, y, text, size=8, color=INK, **options):
    # A name may hold dollars, which are no mathematics here.
    axes.text(x, y, text, **{"size": size, "color": color, "va": "center", "parse_math": False, **options})
