"""A network as lines of text, with its connections: the lower part of the figure of an analysis."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from keras_cnn.analysis.drawing.diagram_lines import DiagramLine
from keras_cnn.analysis.drawing.style import BLUE, FAINT, GREEN, INK, ORANGE
from keras_cnn.analysis.formatting import GLOBAL_MARK, format_field, format_shape, human_number, shorten_name

# Where things are within a column of lines, in inches from its left edge.
NUMBER_END = 0.25
SPINE = 1.05
NAME = 1.2
KIND = 3.35
OUTPUT_END = 6.3
FIELD_END = 7.45
MACS = 7.6
PARAMETERS = 8.8
COLUMN_WIDTH = 10.1
# Sizes in inches.
LINE_HEIGHT = 0.235
HEADING_HEIGHT = 0.35
BAR_LENGTH = 0.6
LANE_WIDTH = 0.13
# Sizes in lanes, lines and characters.
MAX_LANES = 5
MAX_LINES_IN_ONE_COLUMN = 45
NAME_ROOM = 26
KIND_ROOM = 34


def layout_for(number: int, above: float) -> tuple[int, int]:
    """(columns, lines in each) for so many lines: with `above` inches on top, the page is 1.5 times as wide as high."""

    def distance(columns):
        height = above + HEADING_HEIGHT + LINE_HEIGHT * math.ceil(number / columns)
        return abs(math.log(columns * COLUMN_WIDTH / height / 1.5))

    columns = 1 if number <= MAX_LINES_IN_ONE_COLUMN else min(range(1, number + 1), key=distance)
    return columns, math.ceil(number / columns)


def draw_diagram(axes: Axes, lines: Sequence[DiagramLine], per_column: int, top: float) -> None:
    """Draw all lines, `per_column` of them in each column, from `top` inches downwards on axes measured in inches."""
    positions = [
        (index // per_column * COLUMN_WIDTH, top + HEADING_HEIGHT + LINE_HEIGHT * (index % per_column + 0.5))
        for index in range(len(lines))
    ]
    for left in sorted({left for left, _ in positions}):
        _draw_headings(axes, left, top + HEADING_HEIGHT / 2)
    undrawn = _draw_connections(axes, lines, positions, per_column)
    largest = {name: max((line.total(name) or 0 for line in lines), default=0) for name in ("macs", "parameters")}
    for index, (line, (left, y)) in enumerate(zip(lines, positions, strict=True)):
        _write(axes, left + NUMBER_END, y, str(index + 1), size=6.5, color=FAINT, ha="right")
        _write_name(axes, left, y, line, undrawn.get(index, ()))
        _write(axes, left + OUTPUT_END, y, format_shape(line.output_shape), size=7.5, ha="right")
        if line.rows:
            _draw_numbers(axes, left, y, line, largest)


def _draw_headings(axes, left, y):
    for x, text, color, side in (
        (NAME, "layer", FAINT, "left"),
        (OUTPUT_END, "output", FAINT, "right"),
        (FIELD_END, "field / stride", GREEN, "right"),
        (MACS, "MACs", BLUE, "left"),
        (PARAMETERS, "parameters", ORANGE, "left"),
    ):
        _write(axes, left + x, y, text, color=color, ha=side)


def _write_name(axes, left, y, line, undrawn):
    """Name and kinds; after the name the numbers of the lines that it takes without a connection being drawn."""
    numbers = ", ".join(str(index + 1) for index in undrawn[:3])
    takes = numbers and f"← {numbers}" + (f" + {len(undrawn) - 3}" if len(undrawn) > 3 else "")
    weight = "bold" if line.total("macs") else None
    _write(axes, left + NAME, y, shorten_name(line.name, NAME_ROOM - len(takes)), weight=weight)
    _write(axes, left + KIND - 0.1, y, takes, size=7, color=BLUE, ha="right")
    kinds = " · ".join(row.kind.replace("Normalization", "Norm") for row in line.rows) or "input"
    _write(axes, left + KIND, y, shorten_name(kinds, KIND_ROOM), size=7, color=FAINT)


def _draw_numbers(axes, left, y, line, largest):
    row = line.rows[-1]
    size, stride, _ = format_field(row)
    size = size.removesuffix(GLOBAL_MARK)
    sign = ("≠ " if any(row.misaligned for row in line.rows) else "") + ("+ " if row.global_field else "")
    _write(axes, left + FIELD_END, y, f"{sign}{size} / {stride}" if stride else size, size=7.5, color=GREEN, ha="right")
    for x, name, color in ((MACS, "macs", BLUE), (PARAMETERS, "parameters", ORANGE)):
        value = line.total(name)
        if value != 0:
            length = BAR_LENGTH * value / largest[name] if value else 0
            axes.barh(y, length, height=0.13, left=left + x, color=color)
            _write(axes, left + x + length + 0.05, y, human_number(value), size=7)


def _draw_connections(axes, lines, positions, per_column):
    """Straight to the next line, in an arc past others of the column.

    Returns:
        For a line by its index, the lines that it takes without a connection being drawn.
    """
    lanes = {}  # for each column, the line where the last arc of each lane ends
    undrawn = {}
    for index, line in enumerate(lines):
        left, y = positions[index]
        for source in sorted(line.inputs, reverse=True):
            source_left, source_y = positions[source]
            same_column = source // per_column == index // per_column
            lane = _free_lane(lanes.setdefault(left, []), source)
            if source == index - 1 and same_column:
                axes.plot([left + SPINE] * 2, [source_y, y], color=FAINT, linewidth=1.1, zorder=1)
            elif source == index - 1:  # from the foot of a column to the head of the next
                _draw_stub(axes, source_left, source_y, 0.2)
                _draw_stub(axes, left, y, -0.2)
            elif same_column and lane < MAX_LANES:
                lanes[left][lane : lane + 1] = [index]
                x = left + SPINE - LANE_WIDTH * (lane + 1)
                xs = [left + SPINE, x, x, left + SPINE]
                ys = [source_y, source_y + 0.09, y - 0.09, y]
                axes.plot(xs, ys, color=BLUE, linewidth=0.9, alpha=0.7, zorder=1)
            else:
                undrawn[index] = (*undrawn.get(index, ()), source)
        if line.inputs or not line.rows:
            axes.plot([left + SPINE], [y], "o", color=INK, markersize=3, zorder=2)
    return undrawn


def _draw_stub(axes, left, y, length):
    axes.plot([left + SPINE] * 2, [y, y + length], color=FAINT, linewidth=1.1, linestyle=":", zorder=1)


def _free_lane(ends, source):
    """The first lane whose arcs have all ended at line `source`."""
    return next((lane for lane, end in enumerate(ends) if end <= source), len(ends))


def _write(axes, x, y, text, size=8, color=INK, **options):
    # A name may contain dollars, which do not mean mathematics here.
    axes.text(x, y, text, **{"size": size, "color": color, "va": "center", "parse_math": False, **options})
