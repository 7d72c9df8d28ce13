"""Pictures of an analysis: the network as a diagram, and the growth of field and cost with depth."""

from __future__ import annotations

from itertools import accumulate

import matplotlib.figure

from keras_cnn.analysis.texts import WHOLE, field_text, shape_text, short

MOST_IN_A_DIAGRAM = 60
INK, FAINT, BLUE, ORANGE, GREEN = "#222222", "#8a8f98", "#1f6feb", "#d97706", "#1a7f4b"
# Columns and line height of the diagram, in inches.
SPINE, NAME, KIND, OUTPUT, FIELD, MACS, PARAMETERS, LINE = 1.4, 1.8, 4.9, 8.1, 9.7, 9.95, 11.55, 0.27


def draw(analysis, path) -> None:
    """Write the picture that suits the network's size: `diagram` up to 60 rows, `growth` beyond."""
    figure = diagram(analysis) if len(analysis.rows) <= MOST_IN_A_DIAGRAM else growth(analysis)
    figure.savefig(path, dpi=150, facecolor="white")


def diagram(analysis) -> matplotlib.figure.Figure:
    """One line for each layer, with its inputs, field and share of the cost."""
    rows = analysis.rows
    width, height = 13, 1.5 + LINE * (len(rows) + 1)
    figure = matplotlib.figure.Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    axes.text(0.3, 0.35, _title(analysis), size=13, weight="bold", color=INK, va="center")
    for x, text, color in ((NAME, "layer", FAINT), (MACS, "MACs", BLUE), (PARAMETERS, "parameters", ORANGE)):
        axes.text(x, 0.8, text, size=9, color=color, va="center")
    for x, text, color in ((OUTPUT, "output", FAINT), (FIELD, "field / stride", GREEN)):
        axes.text(x, 0.8, text, size=9, color=color, va="center", ha="right")
    places = [1.15 + LINE * place for place in range(len(rows) + 1)]  # the input stands first
    axes.text(NAME, places[0], "input", size=9, color=FAINT, va="center")
    axes.text(OUTPUT, places[0], shape_text(analysis.input_shape), size=9, color=FAINT, va="center", ha="right")
    _edges(axes, rows, places)
    most = {name: max((getattr(row, name) or 0 for row in rows), default=0) for name in ("macs", "parameters")}
    for row, y in zip(rows, places[1:], strict=True):
        _line(axes, row, y, most, analysis.joins_misaligned(row))
    if analysis.misaligned:
        text = "≠  joins branches whose centres differ: the field is the box around all of them"
        axes.text(NAME, places[-1] + LINE, text, size=8, color=ORANGE, va="center")
    return figure


def growth(analysis) -> matplotlib.figure.Figure:
    """Field, MACs and parameters from the input to the output."""
    figure = matplotlib.figure.Figure(figsize=(10, 7), layout="constrained")
    figure.suptitle(_title(analysis), size=13, weight="bold", color=INK)
    above, below = figure.subplots(2, 1, sharex=True)
    _field_curve(above, analysis)
    places = range(len(analysis.rows))
    for name, label, color in (("macs", "MACs", BLUE), ("parameters", "parameters", ORANGE)):
        values = [getattr(row, name) for row in analysis.rows]
        if None not in values and sum(values):
            shares = [100 * total / sum(values) for total in accumulate(values)]
            below.plot(places, shares, color=color, label=f"{label}: {short(sum(values))} in all")
    below.set(ylabel="spent so far, %", xlabel="layer, in the order of execution", ylim=(0, 102))
    below.legend(frameon=False, loc="upper left")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e5e7eb", linewidth=0.7)
    return figure


def _field_curve(axes, analysis):
    """Field size of each row that has a local one; branches lie on a line of their own each."""
    places, sizes = [], []
    for place, row in enumerate(analysis.rows):
        if row.field and row.field[0].stride and row.field[0].size is not None:
            places.append(place)
            sizes.append(row.field[0].size)
    axes.plot(places, sizes, ".", color=GREEN, markersize=4, label="one unit of the layer")
    side = analysis.input_shape[0] if analysis.input_shape else None
    if side:
        axes.axhline(side, color=FAINT, linewidth=1, linestyle="--", label=f"the input: {side}")
    axes.set(ylabel="receptive field, input cells", ylim=(0, None))
    axes.legend(frameon=False, loc="upper left")


def _title(analysis):
    return (
        f"{analysis.name}: input {shape_text(analysis.input_shape)}, {short(analysis.parameters)} parameters, "
        f"{short(analysis.macs)} MACs"
    )


def _edges(axes, rows, places):
    """Straight to the next line, in an arc past others; arcs that overlap lie in lanes of their own."""
    lanes = []
    for place, row in enumerate(rows, 1):
        for source in sorted((after + 1 for after in row.after), reverse=True) or [0]:
            if source == place - 1:
                axes.plot([SPINE, SPINE], [places[source], places[place]], color=FAINT, linewidth=1.2, zorder=1)
                continue
            lane = next((n for n, end in enumerate(lanes) if end <= source), len(lanes))
            lanes[lane : lane + 1] = [place]
            x = max(SPINE - 0.16 * (lane + 1), 0.1)
            top, bottom = places[source], places[place]
            xs, ys = [SPINE, x, x, SPINE], [top, top + 0.13, bottom - 0.13, bottom]
            axes.plot(xs, ys, color=BLUE, linewidth=0.9, alpha=0.7, zorder=1)
    for place in places:
        axes.plot([SPINE], [place], "o", color=INK, markersize=3.5, zorder=2)


def _line(axes, row, y, most, misaligned):
    color = INK if row.macs else FAINT
    axes.text(NAME, y, row.name if len(row.name) <= 36 else "…" + row.name[-35:], size=9, color=color, va="center")
    if misaligned:
        axes.text(NAME - 0.12, y, "≠", size=10, color=ORANGE, va="center", ha="right")
    axes.text(KIND, y, row.kind, size=8, color=FAINT, va="center")
    axes.text(OUTPUT, y, shape_text(row.output_shape), size=9, color=color, va="center", ha="right")
    axes.text(FIELD, y, _field(row), size=9, color=GREEN, va="center", ha="right")
    for x, attribute, bar in ((MACS, "macs", BLUE), (PARAMETERS, "parameters", ORANGE)):
        if value := getattr(row, attribute):
            length = 0.9 * value / most[attribute]
            axes.barh(y, length, height=0.15, left=x, color=bar)
            axes.text(x + length + 0.06, y, short(value), size=8, color=INK, va="center")


def _field(row):
    size, stride, _ = field_text(row)
    size, _, whole = size.partition(WHOLE)
    return (f"{size} / {stride}" if stride else size) + (WHOLE if whole or row.global_field else "")
