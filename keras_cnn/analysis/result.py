"""The result of an analysis: rows, totals, and the same as a dictionary."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property

from keras_cnn import arguments
from keras_cnn.analysis.drawing import style as canvas
from keras_cnn.analysis.drawing import table
from keras_cnn.analysis.fields.axis_field import box
from keras_cnn.analysis.fields.axis_parts import place_of, size_of
from keras_cnn.analysis.fields.costs import Cost, sum_of
from keras_cnn.analysis.formatting import some
from keras_cnn.geometry import Field


@dataclass(frozen=True)
class Row:
    """One call of a layer.

    Attributes:
        id: The name, or "conv#1", "conv#2" for the calls of a layer that is called more than once: no two rows share one.
        name: Name of the layer, behind those of the models it is nested in: "backbone/conv1".
        kind: Class of the layer, or of the operation of `keras.ops`.
        inputs: Whose outputs it takes: the `id` of rows, and names of inputs of the model.
        output_shape: Without batch; None for sizes that are not known. Of several outputs, that of the first, as `field` is.
        field: What one unit sees: a `Field` for each spatial axis of the input. Stride 0: every unit sees the same cells,
            as behind global pooling. Size 0: it does not depend on the input. None: not known, or depends on the size of
            the input.
        global_field: What a unit sees besides through a global branch, such as squeeze-and-excitation; None: nothing.
        misaligned: Why `field` is a box around branches whose centres differ, which meet here; None: none do.
        parameters: Weights that no earlier row has counted.
        trainable_parameters: Those of them that are trained.
        cost: Operations for one example.
        memory: Bytes of the output for one example.
        reaches: For each spatial axis, the exact cells: what moves with the unit, what all see, and how many units
            there are.
        places: For each axis of the output but that of the channels, how it runs along the input.
    """

    id: str
    name: str
    kind: str
    inputs: tuple[str, ...]
    output_shape: tuple
    field: tuple[Field, ...]
    global_field: tuple[Field, ...] | None
    misaligned: str | None
    parameters: int
    trainable_parameters: int
    cost: Cost
    memory: int | None
    reaches: tuple = field(repr=False)
    places: tuple = field(repr=False)
    input_sizes: tuple = field(repr=False)

    @property
    def macs(self) -> int | None:
        return self.cost.macs

    @property
    def sees_all(self) -> bool | None:
        """Whether every unit sees the whole input; None: not known."""
        if any(one.stride != 0 for one in self.field):
            return None if any(one.stride is None for one in self.field) else False
        boxes = self.box()
        if any(None in pair for pair in boxes):
            return None
        return all(pair == (0, size - 1) for pair, size in zip(boxes, self.input_sizes, strict=True))

    def box(self, unit=None) -> tuple[tuple[int | None, int | None], ...]:
        """First and last input cell that one unit sees, along each spatial axis of the input.

        A unit is a place of the output with all its channels. The cells are those of the input itself: padding is none of
        them, or those that it copies. What comes through a global branch is left out.

        Args:
            unit: One index for each axis of `output_shape` but that of the channels; None: the middle one.

        Returns:
            (first, last) for each axis of the input; (None, None) if it is not known, or if the unit sees nothing.

        Raises:
            ValueError: If there is no such unit.
        """
        if unit is None:
            units = [None if count is None else count // 2 for _, _, count in self.reaches]
        else:
            sizes = [size_of(atoms) for atoms in self.places]
            places = arguments.per_axis("box", "unit", unit, len(sizes), minimum=0)
            if any(size is not None and place >= size for place, size in zip(places, sizes, strict=True)):
                expected = f"a place in the output of {self.name!r}, which has {' × '.join(map(str, sizes))}"
                raise ValueError(arguments.message("box", "unit", expected, unit))
            where = list(zip(self.places, places, strict=True))
            units = [sum(place_of(atoms, place, n) for atoms, place in where) for n in range(len(self.reaches))]
        return box([(local, whole) for local, whole, _ in self.reaches], units, self.input_sizes)

    def to_dict(self) -> dict:
        """Plain numbers and strings, ready for JSON; a fraction is a float."""
        return {
            "id": self.id,
            "name": self.name,
            "kind": self.kind,
            "inputs": list(self.inputs),
            "output_shape": list(self.output_shape),
            **self.seen(),
            "misaligned": self.misaligned,
            "parameters": self.parameters,
            "trainable_parameters": self.trainable_parameters,
            **_cost_dict(self.cost),
            "memory": self.memory,
        }

    def seen(self) -> dict:
        """The part of `to_dict` that is about one input of the model."""
        return {
            "receptive_field": _field_dict(self.field),
            "global_field": self.global_field and _field_dict(self.global_field),
            "sees_whole_input": self.sees_all,
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
        others: For each other input, by its name, the same analysis with the fields within that one.
    """

    name: str
    backbone: bool
    inputs: dict[str, tuple]
    input: str
    rows: tuple[Row, ...]
    outputs: tuple[tuple[str, tuple], ...]
    receptive_field: tuple[Field, ...]
    notes: tuple[str, ...]
    others: dict[str, Analysis] = field(default_factory=dict)

    def __repr__(self):
        return f"<Analysis of {table.title(self)}, {len(self.rows)} rows; to_text() is the table>"

    @property
    def input_shape(self) -> tuple:
        """Without batch; of the input that all fields are within."""
        return self.inputs[self.input]

    @property
    def misaligned(self) -> tuple[str, ...]:
        """Names of layers that join branches whose centres differ; their field is the box around all of them."""
        return tuple(dict.fromkeys(row.name for row in self.rows if row.misaligned))

    @property
    def last_map(self) -> Row | None:
        """The last row whose units stand at different places, such as what a global pooling reads; None: not known."""
        found = next((row for row in reversed(self.rows) if any(axis.stride != 0 for axis in row.field)), None)
        return None if found is None or any(axis.stride is None for axis in found.field) else found

    @property
    def sees_whole_input(self) -> bool | None:
        """Whether a unit of the first output sees the whole input; None: not known."""
        if any(axis.stride != 0 for axis in self.receptive_field):
            return None if any(axis.stride is None for axis in self.receptive_field) else False
        return next((row.sees_all for row in self.rows if row.id == self.outputs[0][0]), None)

    @cached_property
    def cost(self) -> Cost:
        """Operations of all rows together; None where those of a row are not known."""
        return Cost(*(sum_of(getattr(row.cost, one.name) for row in self.rows) for one in fields(Cost)))

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
        return sum(row.trainable_parameters for row in self.rows)

    @property
    def memory(self) -> int | None:
        """Bytes of all outputs together, for one example: what training keeps for the backward pass, at most."""
        return sum_of(row.memory for row in self.rows)

    @property
    def lower_bounds(self) -> dict[str, int]:
        """For each total that is None, what is known of it: the sum over the rows that have a number."""
        parts = {one.name: [getattr(row.cost, one.name) for row in self.rows] for one in fields(Cost)}
        parts["memory"] = [row.memory for row in self.rows]
        return {name: sum(n for n in numbers if n is not None) for name, numbers in parts.items() if None in numbers}

    def row(self, name: str) -> Row:
        """The row of a layer by its `id`, or by its name: the last one, if it is called more than once.

        Raises:
            ValueError: If there is none of that name.
        """
        found = [row for row in self.rows if name in (row.id, row.name, row.name.rsplit("/", 1)[-1])]
        if not found:
            raise ValueError(
                f"analyze: no layer {name!r} in {self.name!r}. It has: {some(row.name for row in self.rows)}."
            )
        return ([row for row in found if name in (row.id, row.name)] or found)[-1]

    def to_dict(self) -> dict:
        """Plain numbers and strings, ready for JSON; docs/analysis.md explains the keys."""
        return {
            "name": self.name,
            "backbone": self.backbone,
            "inputs": [{"id": name, "shape": list(shape)} for name, shape in self.inputs.items()],
            "outputs": [{"id": name, "shape": list(shape)} for name, shape in self.outputs],
            "input_shape": list(self.input_shape),
            **self._seen(),
            "other_inputs": {name: other._seen() for name, other in self.others.items()},
            "parameters": self.parameters,
            "trainable_parameters": self.trainable_parameters,
            **_cost_dict(self.cost),
            "memory": self.memory,
            "lower_bounds": self.lower_bounds,
            "misaligned": list(self.misaligned),
            "notes": list(self.notes),
            "layers": [
                {**row.to_dict(), "other_inputs": {name: other.rows[n].seen() for name, other in self.others.items()}}
                for n, row in enumerate(self.rows)
            ],
        }

    def _seen(self):
        last = self.last_map
        return {
            "receptive_field": _field_dict(self.receptive_field),
            "sees_whole_input": self.sees_whole_input,
            "last_map": last and {"id": last.id, "output_shape": list(last.output_shape), **last.seen()},
        }

    def to_text(self, width: int = 120) -> str:
        """A table with a line for each layer, totals and notes, at most `width` characters wide.

        Names that are too long lose their middle; columns that do not fit are left out, and named below the table.
        """
        return table.text(self, width)

    def plot(self, path) -> None:
        """Draw the network to `path`, a `.png`, `.svg` or `.pdf` file: how field and cost grow, and below it each layer.

        Raises:
            ValueError: If `path` ends in something else, or its folder does not exist.
        """
        path = canvas.checked_path("plot", path)
        from keras_cnn.analysis.drawing import figure as pictures

        canvas.write(pictures.page(self), path)


def _cost_dict(cost):
    return {one.name: getattr(cost, one.name) for one in fields(Cost)}


def _field_dict(axes):
    return [
        {n: value if value is None or isinstance(value, int) else float(value) for n, value in vars(axis).items()}
        for axis in axes
    ]
