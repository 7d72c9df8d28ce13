"""The picture of an analysis: how field and cost grow with depth, and below it the network, line by line."""

from __future__ import annotations

import textwrap
from itertools import accumulate

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from keras_cnn.analysis.drawing import diagram
from keras_cnn.analysis.drawing.diagram_lines import lines_of
from keras_cnn.analysis.drawing.style import BLUE, FAINT, INK, LINE, ORANGE
from keras_cnn.analysis.drawing.table import title, total
from keras_cnn.analysis.formatting import elided, short

MARGIN = 0.3  # inches, all of these; the others grow with the page, to be read when it is seen as a whole
TITLE, PANEL, AXIS = 0.75, 2.8, 1.3
GREY = "#57606a"


def page(analysis) -> Figure:
    """A figure as large as the network needs."""
    lines = lines_of(analysis)
    columns, each = diagram.columns_for(len(lines), TITLE + PANEL + AXIS)
    scale = 1 + 0.3 * (columns - 1)
    above = (TITLE + PANEL + AXIS) * scale
    below = above + diagram.HEAD + each * diagram.LINE + 0.2
    signs = _signs(analysis, lines, room=int(columns * diagram.COLUMN * 14))
    width = columns * diagram.COLUMN + 2 * MARGIN
    height = below + 0.18 * len(signs) + 2 * MARGIN
    figure = Figure(figsize=(width, height))
    sheet = figure.add_axes((0, 0, 1, 1))
    sheet.set(xlim=(-MARGIN, width - MARGIN), ylim=(height - MARGIN, -MARGIN))
    sheet.axis("off")
    _head(sheet, analysis, scale, room=int(columns * diagram.COLUMN / scale * 8))
    _panels(figure, analysis, lines, scale)
    diagram.draw(sheet, lines, each, above)
    for place, sentence in enumerate(signs):
        sheet.text(0, below + 0.18 * place, sentence, size=7.5, color=FAINT, va="center", parse_math=False)
    return figure


def _head(sheet, analysis, scale, room):
    totals = f"{total(analysis, 'macs')} MACs, {total(analysis, 'memory', 'B')} of activations for one example"
    for y, text, size, weight in (
        (0.05, elided(title(analysis), room), 14, "bold"),
        (0.35, f"{analysis.parameters:,} parameters, {totals}", 10, "normal"),
    ):
        options = {"color": INK, "va": "center", "parse_math": False}
        sheet.text(0, y * scale, text, size=size * scale, weight=weight, **options)


def _panels(figure, analysis, lines, scale):
    """Two curves side by side, field and cost, over the numbers of the lines."""
    width, height = figure.get_size_inches()
    panel = (width - 2 * MARGIN - 1.8 * scale) / 2
    bottom, top = MARGIN + (TITLE + PANEL + 0.6) * scale, PANEL * scale
    with matplotlib.rc_context({"font.size": 9 * scale, "lines.markersize": 4 * scale, "lines.linewidth": 1.5 * scale}):
        for left, draw in ((MARGIN + 0.7 * scale, _field), (width - MARGIN - panel, _cost)):
            axes = figure.add_axes((left / width, 1 - bottom / height, panel / width, top / height))
            draw(axes, analysis, lines)
            axes.set(xlabel="line of the diagram", xlim=(0.5, len(lines) + 0.5))
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color=LINE, linewidth=0.7)
            _legend(axes, panel / scale)


def _signs(analysis, lines, room):
    """What the signs mean that are there, and the notes, in lines of `room` characters."""
    sentences = [
        "field / stride: cells of the input that one unit sees, and how much further those of the next one lie"
    ]
    if any(source < place - 1 for place, line in enumerate(lines) for source in line.sources):
        sentences.append("blue arc, or ← and the number of a line: takes the output of an earlier line")
    if any(row.global_field for row in analysis.rows):
        sentences.append("+ : besides, through a global branch, something of the whole input")
    if analysis.misaligned:
        sentences.append("≠ : branches meet whose centres differ; the field is the box around all of them")
    texts = ["; ".join(sentences) + ".", *analysis.notes]
    return [line for text in texts for line in textwrap.wrap(text, room)]


def _field(axes, analysis, lines):
    """The field of each line, coloured by stride; two points where the axes differ."""
    seen = [(place, line.rows[-1]) for place, line in enumerate(lines, 1) if line.rows]
    points = [
        (place, axis, row.global_field is not None)
        for place, row in seen
        for axis in dict.fromkeys(row.field)
        if axis.stride and axis.size
    ]
    strides = sorted({axis.stride for _, axis, _ in points})
    for stride, colour in zip(strides, matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(strides))), strict=True):
        axes.plot([], [], "o", color=colour, label=f"stride {stride}")
        for face, besides in ((colour, False), ("white", True)):
            here = [(place, axis.size) for place, axis, far in points if axis.stride == stride and far == besides]
            axes.plot([x for x, _ in here], [y for _, y in here], "o", color=colour, markerfacecolor=face)
    if any(besides for *_, besides in points):
        axes.plot([], [], "o", color=GREY, markerfacecolor="white", label="sees also the whole input")
    sides = list(dict.fromkeys(size for row in analysis.rows[:1] for size in row.input_sizes if size))
    whole = [place for place, row in seen if row.field and row.sees_all]
    for side in sides:
        label = f"size of the input: {' × '.join(map(str, sides))}" if side == sides[0] else None
        axes.axhline(side, color=FAINT, linewidth=1, linestyle="--", label=label)
    if whole and sides:
        axes.plot(whole, [max(sides)] * len(whole), "x", color=INK, label="sees all of the input")
    axes.set(ylabel="receptive field of one unit,\ncells of the input", ylim=(0, None))
    axes.yaxis.get_major_locator().set_params(integer=True)


def _cost(axes, analysis, lines):
    """The share of each total that is spent up to each line; none of a total that is not known."""
    for name, unit, label, colour in (
        ("macs", "", "MACs", BLUE),
        ("parameters", "", "parameters", ORANGE),
        ("memory", "B", "of activations", GREY),
    ):
        values = [line.total(name) for line in lines]
        if None not in values and sum(values):
            shares = [100 * spent / sum(values) for spent in accumulate(values)]
            count = short(analysis.parameters) if name == "parameters" else total(analysis, name, unit)
            axes.plot(range(1, len(lines) + 1), shares, color=colour, label=f"{count} {label}")
    axes.set(ylabel="spent up to here, % of the total", ylim=(0, 102))


def _legend(axes, width):
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
