"""The figure of an analysis: how field and cost grow with depth, and below that the network, line by line."""

from __future__ import annotations

import textwrap
from itertools import accumulate
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from keras_cnn.analysis.drawing import diagram
from keras_cnn.analysis.drawing.diagram_lines import make_lines
from keras_cnn.analysis.drawing.style import BLUE, FAINT, GREY, INK, ORANGE, RULE
from keras_cnn.analysis.drawing.table import format_total, title
from keras_cnn.analysis.formatting import human_number, shorten_name

if TYPE_CHECKING:
    from keras_cnn.analysis.result import Analysis

MARGIN = 0.3  # inches, as all of these
# Heights that grow with the page, to be legible when all of it is seen.
TITLE_HEIGHT = 0.75
PANEL_HEIGHT = 2.8
AXIS_HEIGHT = 1.3


def draw_analysis(analysis: Analysis) -> Figure:
    """A figure as large as the network needs."""
    lines = make_lines(analysis)
    heading = TITLE_HEIGHT + PANEL_HEIGHT + AXIS_HEIGHT
    columns, per_column = diagram.layout_for(len(lines), heading)
    scale = 1 + 0.3 * (columns - 1)
    above = heading * scale
    below = above + diagram.HEADING_HEIGHT + per_column * diagram.LINE_HEIGHT + 0.2
    explanations = _explanations(analysis, lines, room=int(columns * diagram.COLUMN_WIDTH * 14))
    width = columns * diagram.COLUMN_WIDTH + 2 * MARGIN
    height = below + 0.18 * len(explanations) + 2 * MARGIN
    figure = Figure(figsize=(width, height))
    page = figure.add_axes((0, 0, 1, 1))
    page.set(xlim=(-MARGIN, width - MARGIN), ylim=(height - MARGIN, -MARGIN))
    page.axis("off")
    _write_title(page, analysis, scale, room=int(columns * diagram.COLUMN_WIDTH / scale * 8))
    _draw_panels(figure, analysis, lines, scale)
    diagram.draw_diagram(page, lines, per_column, above)
    for index, sentence in enumerate(explanations):
        page.text(0, below + 0.18 * index, sentence, size=7.5, color=FAINT, va="center", parse_math=False)
    return figure


def _write_title(page, analysis, scale, room):
    memory = format_total(analysis, "memory", "B")
    totals = f"{format_total(analysis, 'macs')} MACs, {memory} of activations for one example"
    for y, text, size, weight in (
        (0.05, shorten_name(title(analysis), room), 14, "bold"),
        (0.35, f"{analysis.parameters:,} parameters, {totals}", 10, "normal"),
    ):
        options = {"color": INK, "va": "center", "parse_math": False}
        page.text(0, y * scale, text, size=size * scale, weight=weight, **options)


def _draw_panels(figure, analysis, lines, scale):
    """Two curves side by side, field and cost, over the numbers of the lines."""
    width, height = figure.get_size_inches()
    panel_width = (width - 2 * MARGIN - 1.8 * scale) / 2
    panel_height = PANEL_HEIGHT * scale
    bottom = MARGIN + (TITLE_HEIGHT + PANEL_HEIGHT + 0.6) * scale
    with matplotlib.rc_context({"font.size": 9 * scale, "lines.markersize": 4 * scale, "lines.linewidth": 1.5 * scale}):
        for left, draw in ((MARGIN + 0.7 * scale, _draw_fields), (width - MARGIN - panel_width, _draw_costs)):
            axes = figure.add_axes((left / width, 1 - bottom / height, panel_width / width, panel_height / height))
            draw(axes, analysis, lines)
            axes.set(xlabel="line of the diagram", xlim=(0.5, len(lines) + 0.5))
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color=RULE, linewidth=0.7)
            _draw_legend(axes, panel_width / scale)


def _explanations(analysis, lines, room):
    """What the signs mean that are there, and the notes, in lines of `room` characters."""
    sentences = [
        "field / stride: cells of the input that one unit sees, and how much further those of the next one lie"
    ]
    if any(source < index - 1 for index, line in enumerate(lines) for source in line.inputs):
        sentences.append("blue arc, or ← and the number of a line: takes the output of an earlier line")
    if any(row.global_field for row in analysis.rows):
        sentences.append("+ : also sees, through a global branch, something of the whole input")
    if analysis.misaligned:
        sentences.append("≠ : branches meet whose centres differ; the field is the box around all of them")
    texts = ["; ".join(sentences) + ".", *analysis.notes]
    return [line for text in texts for line in textwrap.wrap(text, room)]


def _draw_fields(axes, analysis, lines):
    """The field of each line, coloured by stride; two points where the axes differ."""
    last_rows = [(number, line.rows[-1]) for number, line in enumerate(lines, 1) if line.rows]
    points = [
        (number, axis, row.global_field is not None)
        for number, row in last_rows
        for axis in dict.fromkeys(row.receptive_field)
        if axis.stride and axis.size
    ]
    _draw_points(axes, points)
    sides = list(dict.fromkeys(size for row in analysis.rows[:1] for size in row.input_sizes if size))
    for side in sides:
        label = f"size of the input: {' × '.join(map(str, sides))}" if side == sides[0] else None
        axes.axhline(side, color=FAINT, linewidth=1, linestyle="--", label=label)
    seeing_all = [number for number, row in last_rows if row.receptive_field and row.sees_whole_input]
    if seeing_all and sides:
        axes.plot(seeing_all, [max(sides)] * len(seeing_all), "x", color=INK, label="sees all of the input")
    axes.set(ylabel="receptive field of one unit,\ncells of the input", ylim=(0, None))
    axes.yaxis.get_major_locator().set_params(integer=True)


def _draw_points(axes, points):
    """Full where a unit sees its field alone, hollow where it also sees the whole input."""
    strides = sorted({axis.stride for _, axis, _ in points})
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(strides)))
    for stride, colour in zip(strides, colours, strict=True):
        axes.plot([], [], "o", color=colour, label=f"stride {stride}")
        for face, has_global in ((colour, False), ("white", True)):
            here = [(number, axis.size) for number, axis, far in points if axis.stride == stride and far == has_global]
            axes.plot([x for x, _ in here], [y for _, y in here], "o", color=colour, markerfacecolor=face)
    if any(has_global for *_, has_global in points):
        axes.plot([], [], "o", color=GREY, markerfacecolor="white", label="sees also the whole input")


def _draw_costs(axes, analysis, lines):
    """The share of each total that is spent up to each line; none of a total that is not known."""
    for name, unit, label, colour in (
        ("macs", "", "MACs", BLUE),
        ("parameters", "", "parameters", ORANGE),
        ("memory", "B", "of activations", GREY),
    ):
        values = [line.total(name) for line in lines]
        if None not in values and sum(values):
            shares = [100 * spent / sum(values) for spent in accumulate(values)]
            total = human_number(analysis.parameters) if name == "parameters" else format_total(analysis, name, unit)
            axes.plot(range(1, len(lines) + 1), shares, color=colour, label=f"{total} {label}")
    axes.set(ylabel="spent up to here, % of the total", ylim=(0, 102))


def _draw_legend(axes, width):
    """Above the panel, where nothing is drawn, in as many columns as `width` inches have room for."""
    _, labels = axes.get_legend_handles_labels()
    if not labels:
        return

    def fits(columns):
        parts = np.array_split(labels, columns)
        return sum(0.45 + 0.055 * max(map(len, part)) for part in parts) < width

    columns = next(filter(fits, range(len(labels), 1, -1)), 1)
    spacing = {"handlelength": 1.3, "columnspacing": 1.2, "frameon": False, "fontsize": "small"}
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=columns, **spacing)
