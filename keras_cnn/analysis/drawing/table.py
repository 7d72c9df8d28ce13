"""An analysis as a table of text."""

from __future__ import annotations

import io
from dataclasses import fields
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from keras_cnn.analysis.fields.costs import Cost
from keras_cnn.analysis.formatting import GLOBAL_MARK, format_field, format_shape, human_number, shorten_name

if TYPE_CHECKING:
    from keras_cnn.analysis.result import Analysis

MIN_WIDTH = {"kind": 12, "layer": 24}  # columns of names, which lose their middle down to so many characters
DROPPED_FIRST = ("padding", "memory", "kind", "stride", "output")  # in this order, where the width is not enough
GAP = 2


def table_text(analysis: Analysis, width: int) -> str:
    """The table, totals and notes, at most `width` characters wide."""
    columns = _columns(analysis)
    shown = _fit_columns(columns, width)
    console = Console(file=io.StringIO(), width=width)
    console.print(Text(title(analysis)), "", _table(analysis, shown), "", _footer(analysis, columns, shown), sep="\n")
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def title(analysis: Analysis) -> str:
    """What is analyzed, in one line."""
    inputs = ", ".join(map(format_shape, analysis.inputs.values()))
    outputs = ", ".join(format_shape(shape) for _, shape in analysis.outputs)
    return f"{analysis.name}{', backbone without its head' if analysis.backbone else ''}: {inputs} → {outputs}"


def format_total(analysis: Analysis, name: str, unit: str = "") -> str:
    """`macs`, `memory` or another total, marked where it is only a lower bound."""
    bound = analysis.lower_bounds.get(name)
    if bound is None:
        return human_number(analysis.memory if name == "memory" else getattr(analysis.cost, name), unit)
    return f"≥ {human_number(bound, unit)}" if bound else "?"


def _columns(analysis):
    """For each column its cells, the last of them the total."""
    rows = [
        (
            row.name + (" ≠" if row.misaligned else ""),
            row.kind,
            format_shape(row.output_shape),
            *format_field(row),
            f"{row.parameters:,}" if row.parameters else "",
            "" if row.macs == 0 else human_number(row.macs),
            human_number(row.memory, "B"),
        )
        for row in analysis.rows
    ]
    names = ("layer", "kind", "output", "field", "stride", "padding", "parameters", "MACs", "memory")
    totals = (
        "total",
        *[""] * 5,
        f"{analysis.parameters:,}",
        format_total(analysis, "macs"),
        format_total(analysis, "memory", "B"),
    )
    return dict(zip(names, zip(*rows, totals, strict=True), strict=True))


def _fit_columns(columns, width):
    """The columns that fit into `width`, with names shortened to fit."""
    shown = dict(columns)
    for dropped in (None, *DROPPED_FIRST):
        shown.pop(dropped, None)
        natural = {name: max(map(cell_len, (name, *cells))) for name, cells in shown.items()}
        least = {name: min(size, MIN_WIDTH.get(name, size)) for name, size in natural.items()}
        spare = width - sum(least.values()) - GAP * (len(shown) - 1)
        if spare >= 0:
            break
    for name in [name for name in MIN_WIDTH if name in shown]:
        size = max(min(natural[name], least[name] + spare), 8)
        shown[name] = [shorten_name(cell, size) for cell in shown[name]]
        spare -= size - least[name]
    return shown


def _table(analysis, shown):
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, collapse_padding=True, show_footer=True)
    for name, (*_, total) in shown.items():
        table.add_column(name, Text(total), no_wrap=True, justify="left" if name in MIN_WIDTH else "right")
    for index in range(len(analysis.rows)):
        table.add_row(*(Text(cells[index]) for cells in shown.values()))
    return table


def _footer(analysis, columns, shown):
    """Totals, what the signs mean, and the notes."""
    grid = Table.grid(padding=(0, GAP))
    for label, sentence in _footer_sentences(analysis, [name for name in columns if name not in shown]):
        grid.add_row(label, Text(sentence))
    for note in analysis.notes:
        grid.add_row("Note", Text(note))
    return grid


def _footer_sentences(analysis, dropped):
    others = {one.name: format_total(analysis, one.name) for one in fields(Cost) if one.name != "macs"}
    also = ", ".join(f"{name} {count}" for name, count in others.items() if count != "0")
    yield "Parameters", f"{analysis.parameters:,} ({analysis.trainable_parameters:,} trainable)"
    yield "MACs", format_total(analysis, "macs") + (f", also: {also}" if also else "")
    yield "Activations", f"{format_total(analysis, 'memory', 'B')} for one example"
    if last := analysis.last_map:
        size, stride, _ = (part.removesuffix(GLOBAL_MARK) for part in format_field(last))
        cells = "cell" if size == "1" else "cells"
        yield (
            "Field",
            f"one unit of {last.name!r}, the last map, sees {size} {cells} of the input along each axis, the "
            f"next one those {stride} further (stride)",
        )
    if any(row.global_field for row in analysis.rows):
        yield GLOBAL_MARK.strip(), "and through a global branch something of the whole input"
    if analysis.misaligned:
        yield "≠", "joins branches whose centres differ: the field is the box around all of them"
    if dropped:
        yield "Left out", f"too narrow for: {', '.join(dropped)}"
