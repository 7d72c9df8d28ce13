"""The result of an analysis: rows, totals, and the same as a dictionary."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from keras_cnn import arguments
from keras_cnn.analysis.drawing import figure_file, table
from keras_cnn.analysis.fields.axis_field import visible_box
from keras_cnn.analysis.fields.axis_parts import axis_size, sequence_index
from keras_cnn.analysis.fields.costs import Cost, sum_or_none
from keras_cnn.arguments import join_some
from keras_cnn.geometry import Field


@dataclass(frozen=True)
class Row:
    """One call of a layer.

    Attributes:
        id: The name, or "conv#1", "conv#2" for the calls of a layer that is called more than once: no two rows share one.
        name: Name of the layer, after those of the models it is nested in: "backbone/conv1".
        kind: Class of the layer, or of the operation of `keras.ops`.
        inputs: Whose outputs it takes: the `id` of rows, and names of inputs of the model.
        output_shape: Without batch; None for sizes that are not known. If there are several outputs, that of the first, as
            `receptive_field` is.
        receptive_field: What one unit sees: a `Field` for each spatial axis of the input. Stride 0: every unit sees the same
            cells, as after global pooling. Size 0: it does not depend on the input. None: not known, or depends on the size of
            the input.
        global_field: What a unit also sees through a global branch, such as squeeze-and-excitation; None: nothing.
        misaligned: Why `receptive_field` is a box around branches whose centres differ, which meet here; None: none do.
        parameters: Weights that no earlier row has counted.
        trainable_parameters: Those of them that are trained.
        cost: Operations for one example.
        memory: Bytes of the output for one example.
        axis_fields: For each spatial axis of the input, the exact cells: the `AxisField` that moves with the unit, the one
            that all units see, and how many units there are.
        output_axes: For each axis of the output without that of the channels, the `AxisPart`s that it is made of.
        input_sizes: Cells of the input along each spatial axis.
    """

    id: str
    name: str
    kind: str
    inputs: tuple[str, ...]
    output_shape: tuple[int | None, ...]
    receptive_field: tuple[Field, ...]
    global_field: tuple[Field, ...] | None
    misaligned: str | None
    parameters: int
    trainable_parameters: int
    cost: Cost
    memory: int | None
    axis_fields: tuple = field(repr=False)
    output_axes: tuple = field(repr=False)
    input_sizes: tuple[int | None, ...] = field(repr=False)

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates for one example."""
        return self.cost.macs

    @property
    def sees_whole_input(self) -> bool | None:
        """Whether every unit sees the whole input; None: not known."""
        if any(one.stride != 0 for one in self.receptive_field):
            return None if any(one.stride is None for one in self.receptive_field) else False
        box = self.box()
        if any(None in interval for interval in box):
            return None
        return all(interval == (0, size - 1) for interval, size in zip(box, self.input_sizes, strict=True))

    def box(self, unit: int | Sequence[int] | None = None) -> tuple[tuple[int | None, int | None], ...]:
        """First and last input cell that one unit sees, along each spatial axis of the input.

        A unit is a position in the output with all its channels. The cells are those of the input itself: padding has none, or
        those that it copies. What comes through a global branch does not count.

        Args:
            unit: One index for each axis of `output_shape` without that of the channels; None: the middle one.

        Returns:
            (first, last) for each axis of the input; (None, None) if it is not known, or if the unit sees nothing.

        Raises:
            ValueError: If there is no such unit.
        """
        if unit is None:
            units = [None if count is None else count // 2 for _, _, count in self.axis_fields]
        else:
            units = self._sequence_indices(unit)
        return visible_box([(local, global_) for local, global_, _ in self.axis_fields], units, self.input_sizes)

    def _sequence_indices(self, unit):
        """For each spatial axis of the input, the index of a unit in the sequence that follows it."""
        sizes = [axis_size(parts) for parts in self.output_axes]
        indices = arguments.per_axis("box", "unit", unit, len(sizes), minimum=0)
        if any(size is not None and index >= size for index, size in zip(indices, sizes, strict=True)):
            expected = f"a position in the output of {self.name!r}, which has {' × '.join(map(str, sizes))}"
            raise ValueError(arguments.message("box", "unit", expected, unit))
        by_axis = list(zip(self.output_axes, indices, strict=True))
        return [
            sum(sequence_index(parts, index, one) for parts, index in by_axis) for one in range(len(self.axis_fields))
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, ready for JSON; a fraction is a float."""
        return {
            "id": self.id,
            "name": self.name,
            "kind": self.kind,
            "inputs": list(self.inputs),
            "output_shape": list(self.output_shape),
            **self._fields_dict(),
            "misaligned": self.misaligned,
            "parameters": self.parameters,
            "trainable_parameters": self.trainable_parameters,
            **_cost_dict(self.cost),
            "memory": self.memory,
        }

    def _fields_dict(self):
        """The part of `to_dict` that is about one input of the model."""
        return {
            "receptive_field": _field_dict(self.receptive_field),
            "global_field": self.global_field and _field_dict(self.global_field),
            "sees_whole_input": self.sees_whole_input,
        }


@dataclass(frozen=True, repr=False)
class Analysis:
    """What `kc.analyze` found.

    Attributes:
        name: Name of the model.
        backbone: Whether it is the model of a `kc.Backbone`, a network without its head.
        inputs: Shape without batch of each input, by its name.
        input: Name of the one that all fields are within: the first.
        rows: The calls, in order.
        outputs: For each output of the model the `id` of the row that gives it, and its shape without batch.
        receptive_field: That of the first output, a `Field` for each spatial axis.
        notes: Sentences about what was assumed or could not be known.
        other_inputs: For each other input, by its name, the same analysis with the fields within that one.
    """

    name: str
    backbone: bool
    inputs: dict[str, tuple[int | None, ...]]
    input: str
    rows: tuple[Row, ...]
    outputs: tuple[tuple[str, tuple[int | None, ...]], ...]
    receptive_field: tuple[Field, ...]
    notes: tuple[str, ...]
    other_inputs: dict[str, Analysis] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Analysis of {table.title(self)}, {len(self.rows)} rows; to_text() is the table>"

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Without batch; of the input that all fields are within."""
        return self.inputs[self.input]

    @property
    def misaligned(self) -> tuple[str, ...]:
        """Names of layers that join branches whose centres differ; their field is the box around all of them."""
        return tuple(dict.fromkeys(row.name for row in self.rows if row.misaligned))

    @property
    def last_map(self) -> Row | None:
        """The last row whose units are at different positions, such as what a global pooling reads; None: not known."""
        found = next(
            (row for row in reversed(self.rows) if any(axis.stride != 0 for axis in row.receptive_field)), None
        )
        return None if found is None or any(axis.stride is None for axis in found.receptive_field) else found

    @property
    def sees_whole_input(self) -> bool | None:
        """Whether a unit of the first output sees the whole input; None: not known."""
        if any(axis.stride != 0 for axis in self.receptive_field):
            return None if any(axis.stride is None for axis in self.receptive_field) else False
        return next((row.sees_whole_input for row in self.rows if row.id == self.outputs[0][0]), None)

    @cached_property
    def cost(self) -> Cost:
        """Operations of all rows together; None where those of a row are not known."""
        return Cost(*(sum_or_none(getattr(row.cost, one.name) for row in self.rows) for one in fields(Cost)))

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates of one example; None if those of a row are not known: see `lower_bounds`."""
        return self.cost.macs

    @property
    def parameters(self) -> int:
        """Weights of the model, each counted once: `model.count_params()`."""
        return sum(row.parameters for row in self.rows)

    @property
    def trainable_parameters(self) -> int:
        """Those of them that are trained."""
        return sum(row.trainable_parameters for row in self.rows)

    @property
    def memory(self) -> int | None:
        """Bytes of all outputs together, for one example: what training keeps for the backward pass, at most."""
        return sum_or_none(row.memory for row in self.rows)

    @property
    def lower_bounds(self) -> dict[str, int]:
        """For each total that is None, what is known of it: the sum over the rows where it is known."""
        counts = {one.name: [getattr(row.cost, one.name) for row in self.rows] for one in fields(Cost)}
        counts["memory"] = [row.memory for row in self.rows]
        return {name: sum(n for n in of_rows if n is not None) for name, of_rows in counts.items() if None in of_rows}

    def row(self, name: str) -> Row:
        """The row of a layer by its `id`, or by its name: the last one, if it is called more than once.

        Raises:
            ValueError: If there is none of that name.
        """
        found = [row for row in self.rows if name in (row.id, row.name, row.name.rsplit("/", 1)[-1])]
        if not found:
            names = join_some(row.name for row in self.rows)
            raise ValueError(f"analyze: no layer {name!r} in {self.name!r}. It has: {names}.")
        return ([row for row in found if name in (row.id, row.name)] or found)[-1]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, ready for JSON; docs/analysis.md explains the keys."""
        return {
            "name": self.name,
            "backbone": self.backbone,
            "inputs": [{"id": name, "shape": list(shape)} for name, shape in self.inputs.items()],
            "outputs": [{"id": name, "shape": list(shape)} for name, shape in self.outputs],
            "input_shape": list(self.input_shape),
            **self._fields_dict(),
            "other_inputs": {name: other._fields_dict() for name, other in self.other_inputs.items()},
            "parameters": self.parameters,
            "trainable_parameters": self.trainable_parameters,
            **_cost_dict(self.cost),
            "memory": self.memory,
            "lower_bounds": self.lower_bounds,
            "misaligned": list(self.misaligned),
            "notes": list(self.notes),
            "layers": [{**row.to_dict(), "other_inputs": self._in_other_inputs(n)} for n, row in enumerate(self.rows)],
        }

    def _in_other_inputs(self, index):
        return {name: other.rows[index]._fields_dict() for name, other in self.other_inputs.items()}

    def _fields_dict(self):
        """The part of `to_dict` that is about one input of the model."""
        last = self.last_map
        return {
            "receptive_field": _field_dict(self.receptive_field),
            "sees_whole_input": self.sees_whole_input,
            "last_map": last and {"id": last.id, "output_shape": list(last.output_shape), **last._fields_dict()},
        }

    def to_text(self, width: int = 120) -> str:
        """A table with a line for each layer, totals and notes, at most `width` characters wide.

        Names that are too long lose their middle. Columns that do not fit are named below the table.
        """
        return table.table_text(self, width)

    def plot(self, path: str | os.PathLike) -> None:
        """Draw the network to `path`, a `.png`, `.svg` or `.pdf` file: how field and cost grow, and below that each layer.

        Raises:
            ValueError: If `path` ends in something else, or its folder does not exist.
        """
        path = figure_file.check_path("plot", path)
        from keras_cnn.analysis.drawing import figure  # it needs Matplotlib, which the rest does without

        figure_file.save(figure.draw_analysis(self), path)


def _cost_dict(cost):
    return {one.name: getattr(cost, one.name) for one in fields(Cost)}


def _field_dict(axes):
    return [
        {n: value if value is None or isinstance(value, int) else float(value) for n, value in vars(axis).items()}
        for axis in axes
    ]
