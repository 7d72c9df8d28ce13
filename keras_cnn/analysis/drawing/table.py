"""An analysis as a table of text."""

from __future__ import annotations

import io
from dataclasses import fields

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from keras_cnn.analysis.fields.costs import Cost
from keras_cnn.analysis.formatting import WHOLE, elided, field_text, shape_text, short

LEAST = {"kind": 12, "layer": 24}  # columns of names, which lose their middle down to so many characters
MINOR = ("padding", "memory", "kind", "stride", "output")  # what is left out for width, first to last
GAP = 2


def text(analysis, width: int) -> str:
    """The table, totals and notes, at most `width` characters wide."""
    columns = _columns(analysis)
    shown = _fitted(columns, width)
    console = Console(file=io.StringIO(), width=width)
    console.print(Text(title(analysis)), "", _table(analysis, shown), "", _below(analysis, columns, shown), sep="\n")
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def title(analysis) -> str:
    """What is analyzed, in a line."""
    inputs = ", ".join(map(shape_text, analysis.inputs.values()))
    outputs = ", ".join(shape_text(shape) for _, shape in analysis.outputs)
    return f"{analysis.name}{', backbone without its head' if analysis.backbone else ''}: {inputs} → {outputs}"


def total(analysis, name: str, unit="") -> str:
    """`macs`, `memory` or another total, marked where it is only a lower bound."""
    bound = analysis.lower_bounds.get(name)
    if bound is None:
        return short(analysis.memory if name == "memory" else getattr(analysis.cost, name), unit)
    return f"≥ {short(bound, unit)}" if bound else "?"


def _columns(analysis):
    """For each column its cells, the last of them the total."""
    rows = [
        (
            row.name + (" ≠" if row.misaligned else ""),
            row.kind,
            shape_text(row.output_shape),
            *field_text(row),
            f"{row.parameters:,}" if row.parameters else "",
            "" if row.macs == 0 else short(row.macs),
            short(row.memory, "B"),
        )
        for row in analysis.rows
    ]
    names = ("layer", "kind", "output", "field", "stride", "padding", "parameters", "MACs", "memory")
    totals = ("total", *[""] * 5, f"{analysis.parameters:,}", total(analysis, "macs"), total(analysis, "memory", "B"))
    return dict(zip(names, zip(*rows, totals, strict=True), strict=True))


def _fitted(columns, width):
    """The columns that fit into `width`, with names cut to fit."""
    shown = dict(columns)
    for minor in (None, *MINOR):
        shown.pop(minor, None)
        natural = {name: max(map(cell_len, (name, *cells))) for name, cells in shown.items()}
        least = {name: min(size, LEAST.get(name, size)) for name, size in natural.items()}
        spare = width - sum(least.values()) - GAP * (len(shown) - 1)
        if spare >= 0:
            break
    for name in [name for name in LEAST if name in shown]:
        size = max(min(natural[name], least[name] + spare), 8)
        shown[name] = [elided(cell, size) for cell in shown[name]]
        spare -= size - least[name]
    return shown


def _table(analysis, shown):
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, collapse_padding=True, show_footer=True)
    for name, (*_, foot) in shown.items():
        table.add_column(name, Text(foot), no_wrap=True, justify="left" if name in LEAST else "right")
    for place in range(len(analysis.rows)):
        table.add_row(*(Text(cells[place]) for cells in shown.values()))
    return table


def _below(analysis, columns, shown):
    """Totals, what the signs mean, and the notes."""
    grid = Table.grid(padding=(0, GAP))
    for label, sentence in _sentences(analysis, [name for name in columns if name not in shown]):
        grid.add_row(label, Text(sentence))
    for note in analysis.notes:
        grid.add_row("Note", Text(note))
    return grid


def _sentences(analysis, left_out):
    others = {one.name: total(analysis, one.name) for one in fields(Cost) if one.name != "macs"}
    besides = ", ".join(f"{name} {count}" for name, count in others.items() if count != "0")
    yield "Parameters", f"{analysis.parameters:,} ({analysis.trainable_parameters:,} trainable)"
    yield "MACs", total(analysis, "macs") + (f", besides: {besides}" if besides else "")
    yield "Activations", f"{total(analysis, 'memory', 'B')} for one example"
    if last := analysis.last_map:
        size, stride, _ = (part.removesuffix(WHOLE) for part in field_text(last))
        cells = "cell" if size == "1" else "cells"
        yield (
            "Field",
            f"one unit of {last.name!r}, the last map, sees {size} {cells} of the input along each axis, the "
            f"next one those {stride} further (stride)",
        )
    if any(row.global_field for row in analysis.rows):
        yield WHOLE.strip(), "and through a global branch something of the whole input"
    if analysis.misaligned:
        yield "≠", "joins branches whose centres differ: the field is the box around all of them"
    if left_out:
        yield "Left out", f"for want of width: {', '.join(left_out)}"
