"""The lines of a diagram: a layer, and with it the normalisation and activation that only it feeds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_cnn.analysis.fields.costs import sum_or_none

if TYPE_CHECKING:
    from keras_cnn.analysis.result import Analysis, Row


@dataclass
class DiagramLine:
    """Rows of an analysis that follow one another on the same map; none: an input of the model.

    Attributes:
        name: The name of the first row, or of the input.
        rows: The rows.
        output_shape: Without batch.
        inputs: Indices of the lines whose outputs it takes, in the list of all lines.
    """

    name: str
    rows: list[Row]
    output_shape: tuple[int | None, ...]
    inputs: tuple[int, ...] = ()

    def total(self, name: str) -> int | None:
        """The sum of an attribute of the rows; None if one is not known."""
        return sum_or_none(getattr(row, name) for row in self.rows)


def make_lines(analysis: Analysis) -> list[DiagramLine]:
    """The inputs, and then a line for each row that does more than change values in place."""
    lines = [DiagramLine(name, [], shape) for name, shape in analysis.inputs.items()]
    line_of = {line.name: index for index, line in enumerate(lines)}  # by the id of a row, or the name of an input
    num_readers = Counter(name for row in analysis.rows for name in row.inputs)
    for row in analysis.rows:
        line = lines[line_of[row.inputs[0]]] if len(row.inputs) == 1 else None
        if line and _continues(line, row, num_readers):
            line.rows.append(row)
            line.output_shape = row.output_shape
            line_of[row.id] = line_of[row.inputs[0]]
        else:
            line_of[row.id] = len(lines)
            lines.append(DiagramLine(row.name, [row], row.output_shape, tuple(line_of[name] for name in row.inputs)))
    return lines


def _continues(line, row, num_readers):
    """Whether a row changes the map of a line in place, and is the only one that reads it."""
    if not line.rows or line.rows[-1].id != row.inputs[0] or num_readers[row.inputs[0]] != 1:
        return False
    before = line.rows[-1]
    return (
        row.macs == 0
        and not row.misaligned
        and (row.receptive_field, row.memory) == (before.receptive_field, before.memory)
    )
