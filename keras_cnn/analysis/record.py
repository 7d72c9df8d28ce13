"""The result of an analysis: rows, totals, and their forms as text and as a dictionary."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, fields
from functools import cached_property, reduce
from operator import add

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from keras_cnn import arguments
from keras_cnn.analysis.costs import Cost
from keras_cnn.analysis.reach import NOTHING
from keras_cnn.analysis.texts import field_text, shape_text, short
from keras_cnn.geometry import Field


@dataclass(frozen=True)
class Row:
    """One call of a layer.

    Attributes:
        name: Name of the layer, behind those of the models it is nested in: "backbone/conv1".
        kind: Class of the layer, or of the operation of `keras.ops`.
        output_shape: Without batch; None for sizes that are not known.
        field: What one unit sees: a `Field` for each spatial axis of the input. Stride 0: every unit sees the same cells,
            as behind global pooling. Size 0: it does not depend on the input. None: not known, or depends on the size of
            the input.
        global_field: What a unit sees besides through a global branch, such as squeeze-and-excitation; None: nothing.
        parameters: Weights that no earlier row has counted.
        trainable_parameters: Those of them that are trained.
        cost: Operations for one example.
        memory: Bytes of the output for one example.
        after: Places in `Analysis.rows` of the calls whose outputs it takes; the input of the model is none of them.
        reaches: For each spatial axis, the exact cells: what moves with the unit, what all see, and how many units
            there are.
    """

    name: str
    kind: str
    output_shape: tuple
    field: tuple[Field, ...]
    global_field: tuple[Field, ...] | None
    parameters: int
    trainable_parameters: int
    cost: Cost
    memory: int | None
    after: tuple[int, ...]
    reaches: tuple = field(repr=False)
    input_sizes: tuple = field(repr=False)

    @property
    def macs(self) -> int | None:
        return self.cost.macs

    @property
    def sees_all(self) -> bool | None:
        """Whether every unit sees the whole input; None: not known."""
        if not all(one.stride == 0 for one in self.field):
            return False
        boxes = self.box()
        if any(None in pair for pair in boxes):
            return None
        return all(pair == (0, size - 1) for pair, size in zip(boxes, self.input_sizes, strict=True))

    def box(self, unit=None) -> tuple[tuple[int | None, int | None], ...]:
        """First and last input cell that one unit sees, along each spatial axis, clipped to the input.

        Exact for units whose window lies within every map on the way. At the border it may say a little more: a unit
        behind padding does not see what an earlier layer cropped away.

        Args:
            unit: Place of the unit, one index for each spatial axis; None: the middle one.

        Returns:
            (first, last) for each axis; (None, None) if it is not known.
        """
        if unit is None:
            units = tuple(None if count is None else count // 2 for _, _, count in self.reaches)
        else:
            units = arguments.per_axis("box", "unit", unit, len(self.reaches), minimum=0)
        boxes = tuple(map(_box, self.reaches, units))
        if NOTHING in boxes:  # along one axis it lies in a gap, as between the kernels of a transposed convolution
            boxes = ((None, None),) * len(boxes)
        return tuple(map(_clipped, boxes, self.input_sizes))

    def to_dict(self) -> dict:
        """Plain numbers and strings, ready for JSON; a fraction is a float."""
        return {
            "name": self.name,
            "kind": self.kind,
            "output_shape": list(self.output_shape),
            "receptive_field": [_axis_dict(axis) for axis in self.field],
            "global_field": self.global_field and [_axis_dict(axis) for axis in self.global_field],
            "sees_whole_input": self.sees_all,
            "parameters": self.parameters,
            "trainable_parameters": self.trainable_parameters,
            **{one.name: getattr(self.cost, one.name) for one in fields(Cost)},
            "memory": self.memory,
        }


@dataclass(frozen=True)
class Analysis:
    """What `kc.analyze` found.

    Attributes:
        name: Name of the model.
        input_shape: Without batch; of the first input, which all fields refer to.
        rows: The calls, in order.
        receptive_field: That of the (first) output, a `Field` for each spatial axis.
        misaligned: Names of layers that join branches whose centres differ; their field is the union box.
        notes: Sentences about what was assumed or could not be known.
    """

    name: str
    input_shape: tuple
    rows: tuple[Row, ...]
    receptive_field: tuple[Field, ...]
    misaligned: tuple[str, ...]
    notes: tuple[str, ...]

    @cached_property
    def cost(self) -> Cost:
        """Operations of all rows together."""
        return reduce(add, (row.cost for row in self.rows), Cost())

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates of one example; None if a size is not known."""
        return self.cost.macs

    @property
    def parameters(self) -> int:
        """Weights of the model, each counted once: `model.count_params()`."""
        return sum(row.parameters for row in self.rows)

    @property
    def trainable_parameters(self) -> int:
        return sum(row.trainable_parameters for row in self.rows)

    @property
    def memory(self) -> int | None:
        """Bytes of all outputs together, for one example: what training keeps for the backward pass, at most."""
        sizes = [row.memory for row in self.rows]
        return None if None in sizes else sum(sizes)

    def row(self, name: str) -> Row:
        """The row of a layer: the last one, if it is called more than once.

        Raises:
            ValueError: If there is none of that name.
        """
        found = [row for row in self.rows if name in (row.name, row.name.rsplit("/", 1)[-1])]
        if not found:
            raise ValueError(
                f"analyze: no layer {name!r} in {self.name!r}. It has: {_some(row.name for row in self.rows)}."
            )
        return next((row for row in reversed(found) if row.name == name), found[-1])

    def joins_misaligned(self, row: Row) -> bool:
        """Whether the row, or a part of it, is in `misaligned`."""
        return any(f"{name}/".startswith(f"{row.name}/") for name in self.misaligned)

    def to_dict(self) -> dict:
        """Plain numbers and strings, ready for JSON."""
        return {
            "name": self.name,
            "input_shape": list(self.input_shape),
            "receptive_field": [_axis_dict(axis) for axis in self.receptive_field],
            "parameters": self.parameters,
            "trainable_parameters": self.trainable_parameters,
            **{one.name: getattr(self.cost, one.name) for one in fields(Cost)},
            "memory": self.memory,
            "misaligned": list(self.misaligned),
            "notes": list(self.notes),
            "layers": [row.to_dict() for row in self.rows],
        }

    def to_text(self, width: int = 120) -> str:
        """A table with a line for each layer, totals and notes, `width` characters wide."""
        table = Table(
            box=box.SIMPLE_HEAD,
            title=f"{self.name}, input {shape_text(self.input_shape)}",
            title_justify="left",
            pad_edge=False,
            collapse_padding=True,
        )
        table.add_column("layer", overflow="fold")
        table.add_column("kind", no_wrap=True)
        for name in ("output", "field", "stride", "padding", "parameters", "MACs", "memory"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(
                escape(row.name) + (" ≠" if self.joins_misaligned(row) else ""),
                row.kind,
                shape_text(row.output_shape),
                *field_text(row),
                f"{row.parameters:,}" if row.parameters else "",
                "" if row.macs == 0 else short(row.macs),
                short(row.memory, "B"),
            )
        console = Console(file=io.StringIO(), width=width)
        console.print(table)
        console.print(self._totals(), markup=False, highlight=False)
        return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())

    def _totals(self):
        trained = f"{self.trainable_parameters:,} trainable"
        others = [(one.name, getattr(self.cost, one.name)) for one in fields(Cost) if one.name != "macs"]
        lines = [
            f"Parameters   {self.parameters:,} ({trained})",
            f"MACs         {short(self.macs)}, besides: " + ", ".join(f"{name} {short(n)}" for name, n in others),
            f"Activations  {short(self.memory, 'B')} for one example",
            *(
                [f"≠            Branches whose centres differ meet there: {len(self.misaligned)}"]
                if self.misaligned
                else []
            ),
            *self.notes,
        ]
        return "\n".join(lines)

    def plot(self, path) -> None:
        """Draw the network to `path`, a `.png`, `.svg` or `.pdf` file.

        Up to 60 layers as a diagram with fields and costs; larger ones as the growth of the field and of the cost.
        """
        from keras_cnn.analysis import pictures

        pictures.draw(self, path)


def _box(reaches, unit):
    local, whole, _ = reaches
    reach = local or whole
    if reach is None:
        return NOTHING
    if reach.boxes is None or reach.shifts or (unit is None and local is not None):
        return None, None
    return reach.at(unit or 0)


def _clipped(box, size):
    first, last = box
    return (None, None) if first is None else (max(first, 0), last if size is None else min(last, size - 1))


def _axis_dict(axis):
    return {
        name: value if value is None or isinstance(value, int) else float(value) for name, value in vars(axis).items()
    }


def _some(names, most=5):
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
