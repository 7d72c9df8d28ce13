"""Where several tensors meet: their sums, and their concatenation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from keras_cnn.analysis.fields.axis_field import centre_distance, concatenated, union, union_of_visible_cells
from keras_cnn.analysis.fields.axis_parts import AxisPart, input_axes_of, plain_axis
from keras_cnn.analysis.fields.tensor_field import Fields, TensorField


class StrideError(ValueError):
    """Branches meet whose units are different distances apart."""


def merge(fields: Fields, shape: Sequence[int | None]) -> TensorField:
    """Units that read one unit of each tensor, broadcast to `shape`.

    Raises:
        StrideError: If the units of the tensors are different distances apart along one input axis.
    """
    if len(fields) == 1 and fields[0].shape == tuple(shape):
        return fields[0]
    fields = [_broadcast(field, shape) for field in fields]
    if _find_misplaced(fields):
        fields = [field.channel_resolved() for field in fields]
    while misplaced := _find_misplaced(fields):  # units see what the other tensors say, and more
        index, input_axis = misplaced
        fields[index] = fields[index].bounded_along({input_axis})
    axes = [_overlay([field.axes[axis] for field in fields]) for axis in range(len(shape))]
    local_fields = []
    global_fields = []
    misaligned = False
    for input_axis in range(len(fields[0].local_fields)):
        local = [field.local_fields[input_axis] for field in fields if field.local_fields[input_axis]]
        global_ = [field.global_fields[input_axis] for field in fields if field.global_fields[input_axis]]
        strides = dict.fromkeys(abs(field.stride) for field in local if field.stride is not None)
        if len(strides) > 1:
            raise StrideError(" and ".join(map(str, strides)))
        local_fields.append(union(local) if local else None)
        global_fields.append(union(global_) if global_ else None)
        misaligned |= centre_distance(local) > 0
    local_fields = _with_boxes_of_each(fields, local_fields)
    bounded_axes = frozenset().union(*(field.bounded_axes for field in fields))
    return TensorField(tuple(axes), tuple(local_fields), tuple(global_fields), bounded_axes, misaligned)


def _with_boxes_of_each(fields, merged):
    """The local fields of `merge`, with the boxes of each tensor; along axes that only some follow, with one box."""
    fields = [field for field in fields if any(field.local_fields)]
    if len(fields) < 2:
        return merged
    common = [one for one in range(len(merged)) if all(field.local_fields[one] for field in fields)]
    visible = (
        union_of_visible_cells([[field.local_fields[one] for one in common] for field in fields]) if common else ()
    )
    visible_along = dict(zip(common, visible, strict=True))
    boxes = max((len(cells) for cells in visible_along.values() if cells is not None), default=1)
    in_one_box = [field and field.in_one_box(boxes) for field in merged]
    return [
        replace(field, visible_cells=visible_along[one]) if one in visible_along else field
        for one, field in enumerate(in_one_box)
    ]


def with_global_branches(field: TensorField, branches: Fields) -> TensorField:
    """`field`, where every unit also sees all that any unit of the branches sees."""
    axes = tuple(map(plain_axis, field.shape))
    return merge([field, *(replace(one.read_all(range(len(one.axes))), axes=axes) for one in branches)], field.shape)


def concatenate(fields: Fields, axis: int, shape: Sequence[int | None]) -> TensorField:
    """Units of all tensors, end to end along `axis`.

    Raises:
        StrideError: As `merge`.
    """
    followed = input_axes_of(field.axes[axis] for field in fields)
    layouts = {field.inner_layout(axis, one) for field in fields for one in followed} - {None}
    if len(followed) > 1 or len(layouts) > 1 or () in layouts:
        return _concatenate_with_bound(fields, axis, shape, followed)
    input_axis = next(iter(followed), None)
    others = [field if input_axis is None else field.with_local_field(input_axis, None) for field in fields]
    differing = [one for one in range(len(fields[0].local_fields)) if _see_different_cells(others, one)]
    if input_axis is None:
        if axis == len(shape) - 1 or input_axes_of(field.axes[-1] for field in fields):
            differing = []  # it is the axis of channels
        fields = [field.with_plain_axis(axis, shape[axis]) for field in fields]
    else:
        ((inner_units, _),) = layouts
        fields = _end_to_end(fields, axis, shape[axis], input_axis, inner_units)
    field = merge(fields, shape)
    bounded_axes = field.bounded_axes | {frozenset((one, input_axis)) - {None} for one in differing}
    return replace(field, bounded_axes=bounded_axes)


def _concatenate_with_bound(fields, axis, shape, followed):
    """Parts of one sequence, or of several, that cannot be put end to end."""
    bounded = [field.bounded_along({one for one in followed if field.local_fields[one]}) for field in fields]
    return merge([field.with_plain_axis(axis, shape[axis]) for field in bounded], shape)


def _end_to_end(fields, axis, size, input_axis, inner_units):
    """The fields along the new axis, each of which sees only what its own piece does."""
    pieces = concatenated(
        [(field.local_fields[input_axis], field.shape[axis] and field.shape[axis] * inner_units) for field in fields]
    )
    followed = (AxisPart(input_axis, size, inner_units),)
    return [
        field.with_local_field(input_axis, piece).with_axis(axis, followed if piece else plain_axis(size))
        for field, piece in zip(fields, pieces, strict=True)
    ]


def _see_different_cells(fields, input_axis):
    """Whether units of the tensors see different cells of one input axis, as far as they see it."""
    local = {field.local_fields[input_axis].key for field in fields if field.local_fields[input_axis]}
    global_ = {
        field.global_fields[input_axis] and field.global_fields[input_axis].key
        for field in fields
        if any(field.local_fields) or any(field.global_fields)
    }
    return max(len(local), len(global_)) > 1


def _find_misplaced(fields):
    """The index of a field, and an input axis that it follows along other axes than the others do; None: there is none."""
    for input_axis in range(len(fields[0].local_fields)):
        layouts = {
            index: _layout(field, input_axis) for index, field in enumerate(fields) if field.local_fields[input_axis]
        }
        first = min(layouts.values(), key=lambda layout: layout[0][0], default=None)
        if misplaced := [index for index, layout in layouts.items() if layout != first]:
            return misplaced[0], input_axis
    for axis in range(len(fields[0].axes)):
        following = {index: field.axes[axis] for index, field in enumerate(fields) if input_axes_of([field.axes[axis]])}
        sizes = [[part.size for part in parts] for parts in following.values()]
        if misplaced := [index for index, own in zip(following, sizes, strict=True) if own != sizes[0]]:
            return misplaced[0], min(input_axes_of([following[misplaced[0]]]))
    return None


def _layout(field, input_axis):
    """Where the sequence that follows an input axis lies: (axis, parts) for each axis, with the other parts made plain."""
    return tuple(
        (axis, tuple(part if part.input_axis == input_axis else AxisPart(None, part.size) for part in parts))
        for axis, parts in enumerate(field.axes)
        if input_axis in input_axes_of([parts])
    )


def _overlay(axes):
    """One axis of several tensors, split as in those that follow the input there, with what any of them follows."""
    following = [parts for parts in axes if input_axes_of([parts])] or axes[:1]
    return tuple(max(parts, key=lambda part: part.input_axis is not None) for parts in zip(*following, strict=True))


def _broadcast(field, shape):
    field = replace(field, axes=(plain_axis(1),) * (len(shape) - len(field.axes)) + field.axes)
    for axis, size in enumerate(shape):
        if field.shape[axis] == 1 and size != 1:
            field = field.read_all([axis]).with_plain_axis(axis, size)
    return field
