"""What operations of `keras.ops` that only move numbers, such as reshapes and slices, do to receptive fields."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keras_cnn import geometry
from keras_cnn.analysis.fields.axis_parts import coalesced, plain_axis, split_parts
from keras_cnn.analysis.fields.call_axes import axis_list, channel_axis, spatial_axes
from keras_cnn.analysis.fields.layer_rules import kernel_of, reduce, shift
from keras_cnn.analysis.fields.merging import concatenate
from keras_cnn.analysis.fields.taps import NUMPY_PADDING, Taps, kernel_taps, listed_taps
from keras_cnn.analysis.fields.tensor_field import Fields, RuleResult, TensorField
from keras_cnn.analysis.tracing import Call

BORDERS = {
    "constant": "zeros",
    "edge": "replicate",
    "wrap": "circular",
}  # modes of `keras.ops.pad`, as in `NUMPY_PADDING`


def get_item(call: Call, fields: Fields) -> RuleResult:
    """Slices and indices; what they omit is not seen."""
    field = fields[0]
    key = call.args[1]
    key = list(key) if isinstance(key, tuple) else [key]
    if not all(one is None or one is Ellipsis or isinstance(one, (int, np.integer, slice)) for one in key):
        return None
    if Ellipsis in key:
        index = key.index(Ellipsis)
        key[index : index + 1] = [slice(None)] * (len(field.axes) - sum(one is not None for one in key) + 1)
    gone = []
    for axis, one in enumerate(one for one in key if one is not None):
        part = one if isinstance(one, slice) else slice(one, one + 1 or None)
        if (field := _slice_along(field, axis, part)) is None:
            return None
        if not isinstance(one, slice):
            field = field.read_all([axis])
            gone.append(axis)
    field = replace(field, axes=tuple(parts for axis, parts in enumerate(field.axes) if axis not in gone))
    return field.reshaped(call.outputs[0].shape)


def _slice_along(field: TensorField, axis: int, part: slice) -> TensorField | None:
    """The units along one axis that a slice takes; None if it depends on an unknown size which units these are."""
    size = field.shape[axis]
    if part == slice(None):
        return field
    if size is None:
        start = part.start or 0
        step = part.step or 1
        forward = start >= 0 and step > 0
        return field.read_along(axis, Taps(step, ((start,),)), None) if forward and part.stop is None else None
    start, stop, step = part.indices(size)
    return field.read_along(axis, Taps(step, ((start,),)), len(range(start, stop, step)))


def slice_op(call: Call, fields: Fields) -> RuleResult:
    """`keras.ops.slice`."""
    starts = call.args[1]
    if len(fields) > 1 or None in fields[0].shape[1:]:
        return None
    field = fields[0]
    for axis, (start, size) in enumerate(zip(starts, call.outputs[0].shape, strict=True)):
        field = field.read_along(axis, kernel_taps(1, before=-int(start)), size)
    return field


def split(call: Call, fields: Fields) -> RuleResult:
    """`keras.ops.split` and `unstack`: a slice for each output."""
    (field,) = fields
    axis = call.operation.axis % len(field.axes)
    if field.shape[axis] is None:
        return None
    results = []
    start = 0
    for tensor in call.outputs:
        same_rank = len(tensor.shape) == len(field.axes)
        size = tensor.shape[axis] if same_rank else 1
        part = _slice_along(field, axis, slice(start, start + size))
        results.append(part if same_rank else reduce(part, [axis], tensor.shape))
        start += size
    return results


def take(call: Call, fields: Fields) -> RuleResult:
    """`keras.ops.take` of constant indices along one axis."""
    axis = call.operation.axis
    if len(fields) > 1 or axis is None or fields[0].shape[axis] is None:
        return None
    indices = np.array(call.args[1])
    if indices.ndim > 1 or not indices.size:
        return None
    axis %= len(fields[0].axes)
    units = (indices.ravel() % fields[0].shape[axis]).tolist()
    field = fields[0].read_along(axis, listed_taps(units), len(units))
    return field if indices.ndim else reduce(field, [axis], call.outputs[0].shape)


def flip(call: Call, fields: Fields) -> RuleResult:
    """Backwards along its axes; `fliplr` is that of axis 1, `flipud` that of axis 0."""
    field = fields[0]
    fixed_axis = {"Fliplr": 1, "Flipud": 0}.get(type(call.operation).__name__)
    for axis in axis_list(call.operation.axis if fixed_axis is None else fixed_axis, len(field.axes)):
        size = field.shape[axis]
        if size is None:
            return None
        field = field.read_along(axis, Taps(-1, ((size - 1,),)), size)
    return field


def roll(call: Call, fields: Fields) -> RuleResult:
    """In theory the sequence continues with its other end."""
    field = fields[0]
    if call.operation.axis is None:
        return None
    shifts, axes = (
        value if isinstance(value, (tuple, list)) else (value,) for value in (call.operation.shift, call.operation.axis)
    )
    for axis, amount in zip(axes, shifts * len(axes) if len(shifts) == 1 else shifts, strict=True):
        field = field.read_along(axis, kernel_taps(1, before=amount, border="circular"), field.shape[axis])
    return field


def repeat(call: Call, fields: Fields) -> RuleResult:
    """Each unit several times."""
    field = fields[0]
    repeats = call.operation.repeats
    axis = call.operation.axis
    if axis is None or (not isinstance(repeats, int) and field.shape[axis] is None):
        return None
    if isinstance(repeats, int):
        return field.read_along(axis, Taps(1, ((0,),) * repeats), call.outputs[0].shape[axis])
    counts = np.broadcast_to(repeats, field.shape[axis]).tolist()
    units = [unit for unit, count in enumerate(counts) for _ in range(count)]
    return field.read_along(axis, listed_taps(units), len(units))


def tile(call: Call, fields: Fields) -> RuleResult:
    """The sequence several times, end to end: in theory it continues with its other end."""
    shape = call.outputs[0].shape
    field = fields[0].reshaped((1,) * (len(shape) - len(fields[0].axes)) + fields[0].shape)
    for axis, size in enumerate(shape):
        field = field.read_along(axis, kernel_taps(1, border="circular"), size)
    return field


def stack(call: Call, fields: Fields) -> RuleResult:
    """Along a new axis."""
    shape = call.outputs[0].shape
    axis = call.operation.axis % len(shape)
    expanded = [replace(field, axes=(*field.axes[:axis], plain_axis(1), *field.axes[axis:])) for field in fields]
    return concatenate(expanded, axis, shape)


def transpose(call: Call, fields: Fields) -> RuleResult:
    """Axes in another order: `transpose`, `swapaxes` and `moveaxis`."""
    operation = call.operation
    rank = len(fields[0].axes)
    order = list(range(rank))
    if hasattr(operation, "axis1"):
        one = operation.axis1
        other = operation.axis2
        order[one], order[other] = order[other], order[one]
    elif hasattr(operation, "source"):
        moved = [axis % rank for axis in operation.source]
        order = [axis for axis in order if axis not in moved]
        for index, axis in sorted((to % rank, axis) for axis, to in zip(moved, operation.destination, strict=True)):
            order.insert(index, axis)
    else:
        order = operation.axes or order[::-1]
    return fields[0].transposed(order)


def pad(call: Call, fields: Fields) -> RuleResult:
    """`keras.ops.pad`, whose one pair of amounts stands for all axes."""
    widths = call.operation.pad_width
    rank = len(fields[0].axes)
    amounts = [before for before, _ in widths] * (rank if len(widths) == 1 else 1)
    border = BORDERS.get(call.operation.mode, call.operation.mode)
    return shift(call, fields[0], range(len(amounts)), amounts, border) if border in NUMPY_PADDING else None


def extract_patches(call: Call, fields: Fields) -> RuleResult:
    """`keras.ops.image.extract_patches`: the cells of each window side by side, before the channels of a cell."""
    field = fields[0]
    operation = call.operation
    if len(field.axes) != len(operation.size) + 2 or None in field.shape or operation.data_format == "channels_first":
        return None
    count = 0
    for axis, (size, stride, padding, dilation) in enumerate(kernel_of(operation, operation.size), 1):
        before, _ = geometry.padding_amounts(field.shape[axis], size, stride, padding, dilation)
        windows = call.outputs[0].shape[axis]
        offsets = tuple((tap * dilation - before,) for tap in range(size))
        field = field.read_along(axis, Taps(stride, offsets), windows * size)
        outer, inner = split_parts(field.axes[axis], windows)
        channels = field.axes[-1]
        field = field.with_axis(axis, outer).with_axis(-1, (*channels[:count], *inner, *channels[count:]))
        count += len(inner)
    return field.with_axis(-1, coalesced(field.axes[-1]))


def depth_to_space(call: Call, fields: Fields) -> RuleResult:
    """The outer channels become the inner parts of the spatial axes."""
    field = fields[0]
    channels = channel_axis(call)
    rest = field.axes[channels]
    for axis in spatial_axes(call):
        inner, rest = split_parts(rest, call.operation.block_size)
        if inner is None:
            return None
        field = field.with_axis(axis, coalesced((*field.axes[axis], *inner)))
    return field.with_axis(channels, rest or plain_axis(1))


def space_to_depth(call: Call, fields: Fields) -> RuleResult:
    """The inner parts of the spatial axes become the outer channels."""
    field = fields[0]
    channels = channel_axis(call)
    moved = []
    for axis in spatial_axes(call):
        size = field.shape[axis]
        outer, inner = split_parts(field.axes[axis], size and size // call.operation.block_size)
        if not inner:
            return None
        field = field.with_axis(axis, outer)
        moved += inner
    return field.with_axis(channels, coalesced((*moved, *field.axes[channels])))
