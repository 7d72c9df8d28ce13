"""The lines of a diagram: a layer, and with it the normalisation and activation that only it feeds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from keras_cnn.analysis.fields.costs import sum_of


@dataclass
class Line:
    """Rows that follow one another on the same map; none: an input of the model.

    Attributes:
        name: Of the first row, or of the input.
        rows: The rows.
        output_shape: Without batch.
        sources: Places of the lines whose outputs it takes, in the list of all lines.
    """

    name: str
    rows: list
    output_shape: tuple
    sources: tuple[int, ...] = ()

    def total(self, name):
        """Sum of an attribute of the rows; None if one is not known."""
        return sum_of(getattr(row, name) for row in self.rows)


def lines_of(analysis) -> list[Line]:
    """The inputs, and then a line for each row that does more than change values in place."""
    lines = [Line(name, [], shape) for name, shape in analysis.inputs.items()]
    places = {line.name: place for place, line in enumerate(lines)}
    readers = Counter(name for row in analysis.rows for name in row.inputs)
    for row in analysis.rows:
        before = lines[places[row.inputs[0]]].rows[-1:] if len(row.inputs) == 1 else []
        if before and before[0].id == row.inputs[0] and readers[row.inputs[0]] == 1 and _in_place(row, before[0]):
            line = lines[places[row.inputs[0]]]
            line.rows.append(row)
            line.output_shape = row.output_shape
            places[row.id] = places[row.inputs[0]]
        else:
            places[row.id] = len(lines)
            lines.append(Line(row.name, [row], row.output_shape, tuple(places[name] for name in row.inputs)))
    return lines


def _in_place(row, before):
    return row.macs == 0 and not row.misaligned and (row.field, row.memory) == (before.field, before.memory)
