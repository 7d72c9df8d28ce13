"""What a tensor sees of the model's input: which input axis each of its axes follows, and which cells it sees there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from keras_cnn.analysis.fields.axis_field import AxisField, input_axis_field, union
from keras_cnn.analysis.fields.axis_parts import (
    Axis,
    AxisPart,
    axis_size,
    coalesced,
    input_axes_of,
    overlapping_input_axes,
    plain_axis,
    product,
    sequence_offsets,
    split_parts,
    with_contiguous_steps,
    without_single_channels,
)
from keras_cnn.analysis.fields.taps import IDENTITY, OUTSIDE, Taps


@dataclass(frozen=True)
class TensorField:
    """The receptive field of every unit of a tensor.

    Attributes:
        axes: For each axis of the tensor, batch first, its parts.
        local_fields: For each input axis, the field of the sequence of units that follows it; None if no axis of the tensor
            follows it.
        global_fields: For each input axis, what every unit sees in addition, through a global branch; None: nothing.
        bounded_axes: Sets of input axes. If all axes of a set are spatial, the fields along them are only an upper bound: of
            the last call it is known that its units see no more.
        misaligned: Whether the last call joined branches whose centres differ.

    Example: an image of 8 x 8 cells with 3 channels, before and after a global average pooling over its rows and columns.
        >>> field = input_field((1, 8, 8, 3))
        >>> field.axes[1], field.local_fields[0].field
        ((AxisPart(input_axis=0, size=8, step=1),), Field(size=1, stride=1, padding=0))
        >>> pooled = field.read_all([1, 2])
        >>> pooled.axes[1], pooled.local_fields[0], pooled.global_fields[0].field
        ((AxisPart(input_axis=None, size=8, step=1),), None, Field(size=8, stride=0, padding=0))
    """

    axes: tuple[Axis, ...]
    local_fields: tuple[AxisField | None, ...]
    global_fields: tuple[AxisField | None, ...]
    bounded_axes: frozenset[frozenset[int]] = frozenset()
    misaligned: bool = False

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The sizes of the axes, batch first; None if unknown."""
        return tuple(map(axis_size, self.axes))

    def units(self, input_axis: int) -> int | None:
        """How many units the sequence that follows an input axis has."""
        return product(part.size for part in self._parts(input_axis))

    @property
    def irregular_axes(self) -> frozenset[int]:
        """Input axes along which units are not one stride apart."""
        return frozenset(one for one, field in enumerate(self.local_fields) if field and field.step is None)

    def with_plain_axis(self, axis: int, size: int | None) -> TensorField:
        """Axis `axis` replaced by `size` units that follow no input axis."""
        return self.with_axis(axis, plain_axis(size))

    def with_axis(self, axis: int, parts: Iterable[AxisPart]) -> TensorField:
        """Axis `axis` made of these parts."""
        axis %= len(self.axes)
        return replace(self, axes=(*self.axes[:axis], tuple(parts), *self.axes[axis + 1 :]))

    def with_local_field(self, input_axis: int, field: AxisField | None) -> TensorField:
        """Another field of the sequence that follows an input axis."""
        return replace(
            self, local_fields=(*self.local_fields[:input_axis], field, *self.local_fields[input_axis + 1 :])
        )

    def bounded_along(self, input_axes: Collection[int]) -> TensorField:
        """It is not known which unit sees what along these input axes: at most what all units see."""
        return replace(self._made_global(input_axes), bounded_axes=self.bounded_axes | one_by_one(input_axes))

    def read_all(self, axes: Iterable[int], keep_local: bool = False) -> TensorField:
        """Every unit reads all units along `axes`, at its own position along the other axes.

        Args:
            axes: Axes of the tensor.
            keep_local: Whether it also reads its own position, as in a normalisation. Then the local field and the global
                one stay separate.
        """
        field = self
        parts = [part for axis in axes for part in self.axes[axis]]
        for input_axis in dict.fromkeys(part.input_axis for part in parts if part.input_axis is not None):
            of_axis = [part for part in parts if part.input_axis == input_axis]
            field = field._read_all_of(input_axis, of_axis, keep_local)
        return field

    def read_all_in_groups(self, axis: int, groups: int, size: int | None) -> TensorField:
        """`size` units along `axis`, each of which reads all units of its own of `groups` groups of neighbours."""
        outer, inner = split_parts(self.axes[axis], groups)
        if outer is None:
            return self.bounded_along(input_axes_of([self.axes[axis]])).with_plain_axis(axis, size)
        field = self.with_axis(axis, (*outer, *inner))
        for input_axis in input_axes_of([inner]):
            of_axis = [part for part in inner if part.input_axis == input_axis]
            field = field._read_all_of(input_axis, of_axis, keep_local=False)
        kept = field.axes[axis][: len(outer)]
        parts = (*kept, AxisPart(None, size // groups)) if size > groups or not kept else kept
        return field.with_axis(axis, coalesced(parts))

    def read_along(self, axis: int, taps: Taps, size: int | None) -> TensorField:
        """`size` units along `axis` that each read some of the former ones."""
        if taps == IDENTITY and size == self.shape[axis]:
            return self
        field = self._with_inner_channels_as_units(axis)
        parts = without_single_channels(field.axes[axis])
        followed = input_axes_of([parts])
        if not followed:
            return field.with_plain_axis(axis, size)
        if len(parts) > 1:
            return field.bounded_along(followed).with_plain_axis(axis, size)
        return field._read_part(axis, parts[0], taps, size)

    def reshaped(self, shape: Sequence[int | None]) -> TensorField:
        """Row-major, as `keras.ops.reshape`; sizes of -1 are not allowed."""
        if tuple(shape) == self.shape:
            return self
        parts = [part for axis in self.axes for part in axis if part.size != 1]
        axes = []
        for size in shape:
            taken, parts = split_parts(parts, size)
            if taken is None:
                return self._bounded_with_shape(shape)
            axes.append(coalesced(taken) or plain_axis(1))
        if parts:
            return self._bounded_with_shape(shape)
        field = replace(self, axes=tuple(axes))
        # An input axis of which only parts of size 1 are left is seen by all units alike.
        return field._made_global(
            [one for one, seen in enumerate(field.local_fields) if seen and not field._parts(one)]
        )

    def transposed(self, order: Sequence[int]) -> TensorField:
        """Axes in another order, the batch axis included."""
        return replace(self, axes=tuple(self.axes[axis] for axis in order))

    def by_position(self, spatial_axes: Sequence[int], usual_channel_axis: int) -> tuple[TensorField, tuple[Axis, ...]]:
        """What the positions of the tensor see, each with all its channels.

        Args:
            spatial_axes: The input axes that are not channels.
            usual_channel_axis: The axis of the tensor that has the channels, unless a spatial axis is outermost there.

        Returns:
            The field, in which a sequence that runs along several axes has no regular step; and for each axis of the tensor
            except batch and channels its parts, whose `input_axis` is an index of `spatial_axes`.
        """
        field = self.channel_resolved()
        axes = range(1, len(field.axes))
        outermost = [part for one in spatial_axes for part in field._sequence(one)[:1]]
        leading = {axis for axis in axes if any(part in field.axes[axis] for part in outermost)}
        channels = next((axis for axis in (usual_channel_axis, *axes) if axis in axes and axis not in leading), None)
        field = field if channels is None else field.read_all([channels])
        positions = [field.axes[axis] for axis in axes if axis != channels]
        for one in spatial_axes:
            if len(field._parts(one)) > 1 or one in overlapping_input_axes(positions):
                irregular = AxisField(None, None, visible_cells=field.local_fields[one].visible_cells)
                field = field.with_local_field(one, irregular)
        index_of = {one: index for index, one in enumerate(spatial_axes)}
        return field, tuple(tuple(AxisPart(index_of.get(one), *rest) for one, *rest in parts) for parts in positions)

    def channel_resolved(self) -> TensorField:
        """Channels that lie within a spatial axis, as after a sub-pixel shuffle, become units of their own there."""
        field = self
        for axis in range(1, len(self.axes)):
            field = field._with_inner_channels_as_units(axis)
        return field

    def inner_layout(self, axis: int, input_axis: int) -> tuple | None:
        """What lies within each unit of `axis` of the sequence that follows an input axis.

        Returns:
            How many units of the sequence, and (axis, part) for each part of it elsewhere; None if no axis follows the input
            axis; () if `axis` is not its outermost part.
        """
        sequence = self._sequence(input_axis)
        if not sequence:
            return None
        if without_single_channels(self.axes[axis]) != tuple(sequence[:1]):
            return ()
        inner = sequence[1:]
        elsewhere = ((index, part) for index, parts in enumerate(self.axes) for part in parts if part in inner)
        return sequence[0].step, tuple(elsewhere)

    def _parts(self, input_axis):
        return [part for axis in self.axes for part in axis if part.input_axis == input_axis]

    def _sequence(self, input_axis):
        """The parts of the sequence that follows an input axis, from the outermost to the innermost."""
        return sorted(self._parts(input_axis), key=lambda part: -part.step)

    def _bounded_with_shape(self, shape):
        """Of another shape, when it is not known which unit is which."""
        return replace(self.bounded_along(input_axes_of(self.axes)), axes=tuple(map(plain_axis, shape)))

    def _with_global_field(self, input_axis, field):
        before = self.global_fields[input_axis]
        field = union([before, field]) if before else field
        return replace(
            self, global_fields=(*self.global_fields[:input_axis], field, *self.global_fields[input_axis + 1 :])
        )

    def _made_global(self, input_axes):
        """Every unit sees what the sequences along these input axes saw, which no axis follows any more."""
        field = self
        for one in input_axes:
            field = field._with_global_field(one, field.local_fields[one].collapse(field.units(one)))
            field = field.with_local_field(one, None)
        plain = {part: AxisPart(None, part.size) for one in input_axes for part in self._parts(one)}
        return field._with_replaced_parts(plain)

    def _with_replaced_parts(self, replacements):
        return replace(self, axes=tuple(tuple(replacements.get(part, part) for part in axis) for axis in self.axes))

    def _read_all_of(self, input_axis, parts, keep_local):
        """Every unit reads all units along these parts of the sequence that follows one input axis."""
        rest = [part for part in self._sequence(input_axis) if part not in parts]
        if not rest:
            everything = self.local_fields[input_axis].collapse(self.units(input_axis))
            return self._with_global_field(input_axis, everything) if keep_local else self._made_global([input_axis])
        # A reshape left other parts of the sequence on axes that are not read.
        together = sequence_offsets(parts)
        units = self.units(input_axis)
        if keep_local:
            group_of = dict(sorted((start + offset, start) for start in sequence_offsets(rest) for offset in together))
            taps = Taps(units, tuple(tuple(start + offset for offset in together) for start in group_of.values()))
            return self._gathered(input_axis, taps, units, units)
        offsets = tuple(tuple(start + offset for offset in together) for start in sequence_offsets(rest[1:]))
        taps = Taps(rest[0].step, offsets)
        field = self._gathered(input_axis, taps, units, product(part.size for part in rest))
        new_steps = dict(zip(rest, with_contiguous_steps(rest), strict=True))
        return field._with_replaced_parts(new_steps | {part: AxisPart(None, part.size) for part in parts})

    def _gathered(self, input_axis, taps, units, new_units):
        field = self.local_fields[input_axis].gather(taps, taps.indices(units, new_units))
        return self.with_local_field(input_axis, field)

    def _read_part(self, axis, part, taps, size):
        """Units along `part`, which is all of `axis`, that each read some of the former ones."""
        input_axis, units, step = part
        length = self.units(input_axis)
        indices = None if None in (units, size) else taps.indices(units, size)
        if length != units:  # a reshape split the sequence, and this is one part of it
            indices = [_sequence_indices(index, units, step, length) for index in indices]
            taps = _sequence_taps(taps, indices, units, step, length)
        field = self.with_local_field(input_axis, self.local_fields[input_axis].gather(taps, indices))
        before = self._sequence(input_axis)
        after = with_contiguous_steps([AxisPart(input_axis, size) if one == part else one for one in before])
        field = field._with_replaced_parts(dict(zip(before, after, strict=True)))
        return field.with_axis(axis, [after[before.index(part)]])

    def _with_inner_channels_as_units(self, axis):
        """Where a reshape put channels within a spatial axis (depth to space), each of its units is there several times."""
        parts = coalesced(without_single_channels(self.axes[axis]))
        if len(parts) != 2 or parts[0].input_axis is None or parts[1].input_axis is not None or parts[1].size is None:
            return self
        sequence, copies = parts
        repeat = Taps(1, ((0,),) * copies.size)
        return self.with_axis(axis, [sequence])._read_part(axis, sequence, repeat, axis_size(parts))


Fields: TypeAlias = Sequence[TensorField]
# What a rule gives: the field of the output, a list for several outputs, or None if it is not known.
RuleResult: TypeAlias = TensorField | list[TensorField] | None


def input_field(shape: Sequence[int | None]) -> TensorField:
    """The field of the input itself, of the given shape with the batch axis."""
    axes = tuple((AxisPart(axis - 1 if axis else None, size),) for axis, size in enumerate(shape))
    return TensorField(axes, tuple(map(input_axis_field, shape[1:])), (None,) * (len(shape) - 1))


def constant_field(shape: Iterable[int | None], input_rank: int) -> TensorField:
    """The field of a tensor that sees nothing of the input, which has `input_rank` axes without the batch."""
    return TensorField(tuple(map(plain_axis, shape)), (None,) * input_rank, (None,) * input_rank)


def unknown_field(shape: Iterable[int | None], input_rank: int) -> TensorField:
    """The field of a tensor of which nothing is known."""
    return replace(constant_field(shape, input_rank), global_fields=(AxisField(None, None),) * input_rank)


def one_by_one(input_axes: Iterable[int]) -> frozenset[frozenset[int]]:
    """`TensorField.bounded_axes` along each of these input axes."""
    return frozenset(frozenset((one,)) for one in input_axes)


def _sequence_indices(index, units, step, length):
    """What each unit of a sequence of `length` reads, if `index` says it for one part of `units` units, `step` apart."""
    starts = np.arange(length // (units * step))[:, None, None] * units
    found = (starts + index[:, None]) * step + np.arange(step)
    return np.where(index[:, None] == OUTSIDE, OUTSIDE, found).ravel()


def _sequence_taps(taps, indices, units, step, length):
    """The taps along a whole sequence of `length`, if `taps` are those along one part of `units` units, `step` apart."""
    if length != units * step:  # each piece of the sequence has borders of its own
        reads = zip(*(index.tolist() for index in indices), strict=True)
        return Taps(length, tuple(tuple(unit for unit in read if unit != OUTSIDE) for read in reads))
    offsets = tuple(
        tuple(offset * step + inner for offset in offsets) for offsets in taps.offsets for inner in range(step)
    )
    return Taps(taps.step and taps.step * step, offsets)
