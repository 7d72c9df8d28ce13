"""Receptive fields along the calls of a model: the field of each tensor, from the input to the output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import keras

from keras_cnn.analysis.fields.axis_parts import Axis, input_axes_of, overlapping_input_axes
from keras_cnn.analysis.fields.call_axes import data_format
from keras_cnn.analysis.fields.merging import StrideError
from keras_cnn.analysis.fields.registry import find_rule
from keras_cnn.analysis.fields.tensor_field import TensorField, constant_field, input_field, one_by_one, unknown_field
from keras_cnn.analysis.tracing import Call
from keras_cnn.arguments import join_some

ATTENTION = (
    keras.layers.AdditiveAttention,
    keras.layers.Attention,
    keras.layers.GroupQueryAttention,
    keras.layers.MultiHeadAttention,
)
NOT_FOUND_YET = -1


@dataclass
class Propagation:
    """The fields of all tensors so far, and what was found on the way.

    Attributes:
        inputs: The input tensors of the model. Fields are those within the first one.
        fields: For each tensor, by its `id`, its `TensorField`.
        misaligned: Names of calls that join branches whose centres differ.
        bounded: (name, `TensorField.bounded_axes`) of calls whose fields are only an upper bound.
        irregular: (name, input axes) of calls after which units are no longer one stride apart along these axes.
        irregular_axes: For each tensor, by its `id`, the input axes along which its units are not one stride apart.
        unknown: (name, class, whether its operations are counted) of calls that cannot be followed.
        channels: The input axis that has the channels; None if no axis does; `NOT_FOUND_YET` before a layer has shown it.
        channels_first: Whether that layer takes its channels first.
    """

    inputs: list[keras.KerasTensor]
    fields: dict[int, TensorField] = field(default_factory=dict)
    misaligned: list[str] = field(default_factory=list)
    bounded: list[tuple[str, frozenset]] = field(default_factory=list)
    irregular: list[tuple[str, frozenset[int]]] = field(default_factory=list)
    irregular_axes: dict[int, frozenset[int]] = field(default_factory=dict)
    unknown: list[tuple[str, str, bool]] = field(default_factory=list)
    channels: int | None = NOT_FOUND_YET
    channels_first: bool = False

    def __post_init__(self) -> None:
        first, *others = self.inputs
        self.input_rank = len(first.shape) - 1
        self.fields[id(first)] = input_field(first.shape)
        self.fields.update((id(x), constant_field(x.shape, self.input_rank)) for x in others)

    def step(self, call: Call) -> None:
        """Find the fields of the call's outputs."""
        if call.parts:
            self._step_through_parts(call)
            return
        fields = [self.fields[id(x)] for x in call.inputs]
        self._find_channels(call, fields)
        found = self._apply_rule(call, fields)
        if found is None:
            found = [unknown_field(x.shape, self.input_rank) for x in call.outputs]
            rule = find_rule(call.operation)
            counted = rule is not None and rule.cost(call).macs is not None
            self.unknown.append((call.name, type(call.operation).__name__, counted))
        for tensor, result in zip(call.outputs, found, strict=True):
            self.fields[id(tensor)] = replace(result, misaligned=False, bounded_axes=frozenset())
            self._note(call, tensor, result)

    def by_position(self, tensor: keras.KerasTensor) -> tuple[TensorField, tuple[Axis, ...]]:
        """`TensorField.by_position` of a tensor."""
        channel_axis = 1 if self.channels_first else len(tensor.shape) - 1
        return self.fields[id(tensor)].by_position(self.spatial_axes, channel_axis)

    @property
    def spatial_axes(self) -> list[int]:
        """The input axes that are not channels."""
        channels = self.channels
        if channels == NOT_FOUND_YET:
            channels = self.input_rank - 1 if self.input_rank > 1 else None
        return [one for one in range(self.input_rank) if one != channels]

    def notes(self) -> Iterator[str]:
        """Sentences about the calls of which something is not known."""
        yield from self._notes_of_unknown()
        spatial = set(self.spatial_axes)
        bounded = [name for name, sets in self.bounded if any(together <= spatial for together in sets)]
        if bounded:
            yield (
                f"{join_some(dict.fromkeys(bounded))}: a unit there and in the following rows may see less than its field."
            )
        irregular = [name for name, input_axes in self.irregular if input_axes & spatial]
        if irregular:
            yield (
                f"{join_some(dict.fromkeys(irregular))}: units there are not one stride apart, so they have no single size, "
                "stride and padding, until a layer puts them in order; `Row.box` has the cells of each."
            )

    def _notes_of_unknown(self):
        names_of = {}
        for name, kind, counted in self.unknown:
            names_of.setdefault((kind, counted), []).append(name)
        for (kind, counted), names in names_of.items():
            names = list(dict.fromkeys(names))
            are, them, their = ("is", "it", "its") if len(names) == 1 else ("are", "them", "their")
            cost = "" if counted else f", and {their} operations are not counted"
            consequence = f"fields after {them} are unknown{cost}"
            yield f"{join_some(names)} ({kind}) {are} not known and cannot be followed: {consequence}."

    def _step_through_parts(self, call):
        noted = len(self.bounded)
        for part in call.parts:
            self.step(part)
        if type(call.operation) in ATTENTION:  # scores see less than everything, what is made of them does not
            del self.bounded[noted:]
            if call.kwargs.get("use_causal_mask"):
                self.bounded.append((call.name, one_by_one(range(self.input_rank))))

    def _apply_rule(self, call, fields):
        """The fields of the outputs; None if they are not known."""
        if not fields or len(call.outputs) == 0:
            return [constant_field(x.shape, self.input_rank) for x in call.outputs]
        rule = find_rule(call.operation)
        try:
            found = rule and rule.field(call, fields)
        except StrideError as error:
            raise ValueError(
                f"analyze: {call.name!r} joins branches whose units are {error} input cells apart, so its units have no "
                "single receptive field. Give the branches equal strides."
            ) from None
        found = found if isinstance(found, list) or found is None else [found]
        # Keras may state a wrong shape of an output. Where the field has another one, nothing is known.
        return found if found and all(map(_fits, found, call.outputs)) else None

    def _note(self, call, tensor, result):
        """Remember what the notes say of an output."""
        if result.misaligned:
            self.misaligned.append(call.name)
        if result.bounded_axes:
            self.bounded.append((call.name, result.bounded_axes))
        _, positions = self.by_position(tensor)
        irregular = result.irregular_axes | {self.spatial_axes[one] for one in overlapping_input_axes(positions)}
        if irregular.difference(*(self.irregular_axes.get(id(x), ()) for x in call.inputs)):
            self.irregular.append((call.name, irregular))
        self.irregular_axes[id(tensor)] = irregular

    def _find_channels(self, call, fields):
        """Note which input axis has the channels, by the first layer with a data format that looks at the input."""
        layout = data_format(call.operation)
        if not fields or not any(fields[0].local_fields):  # it does not look at the input
            return
        if self.channels != NOT_FOUND_YET or layout is None or isinstance(call.operation, keras.layers.Flatten):
            return
        self.channels_first = layout == "channels_first"
        axes = fields[0].axes
        channel_axis = 1 if self.channels_first else len(axes) - 1
        elsewhere = input_axes_of(parts for axis, parts in enumerate(axes) if axis != channel_axis)
        only_there = input_axes_of([axes[channel_axis]]) - elsewhere
        complete = {one for one in only_there if fields[0].units(one) == self.inputs[0].shape[one + 1]}
        nowhere = set(range(self.input_rank)) - input_axes_of(axes)
        # As the input has it; or on no axis, as a reshape leaves a single channel; or split or tiled.
        found = (next(iter(candidates)) for candidates in (complete, nowhere, only_there) if len(candidates) == 1)
        self.channels = next(found, None)


def _fits(field, tensor):
    """Whether a field is that of a tensor of this shape."""
    sizes = zip(field.shape, tensor.shape, strict=False)
    return len(field.axes) == len(tensor.shape) and all(one == other or None in (one, other) for one, other in sizes)
