"""What operations of `keras.ops` that only move numbers do to receptive fields."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keras_cnn import geometry
from keras_cnn.analysis.fields import layer_rules as effects
from keras_cnn.analysis.fields.axis_parts import Atom, coalesced, cut
from keras_cnn.analysis.fields.merging import joined
from keras_cnn.analysis.fields.taps import PADS, Reading, listed, window

BORDERS = {"constant": "zeros", "edge": "replicate", "wrap": "circular"}  # modes of `keras.ops.pad`, as in `PADS`


def get_item(call, views):
    """Slices and indices; what is left out is not seen."""
    view, key = views[0], call.args[1]
    key = list(key) if isinstance(key, tuple) else [key]
    if not all(one is None or one is Ellipsis or isinstance(one, (int, np.integer, slice)) for one in key):
        return None
    if Ellipsis in key:
        place = key.index(Ellipsis)
        key[place : place + 1] = [slice(None)] * (len(view.axes) - sum(one is not None for one in key) + 1)
    gone = []
    for axis, one in enumerate(one for one in key if one is not None):
        part = one if isinstance(one, slice) else slice(one, one + 1 or None)
        if (view := _part(view, axis, part)) is None:
            return None
        if not isinstance(one, slice):
            view, gone = view.mixed([axis]), [*gone, axis]
    view = replace(view, axes=tuple(atoms for axis, atoms in enumerate(view.axes) if axis not in gone))
    return view.reshaped(call.outputs[0].shape)


def _part(view, axis, part):
    """The units along one axis that a slice takes; None if it depends on an unknown size which ones these are."""
    size, start, step = view.shape[axis], part.start or 0, part.step or 1
    if part == slice(None):
        return view
    if size is None:
        forward = start >= 0 and step > 0
        return view.along(axis, Reading(step, ((start,),)), None) if forward and part.stop is None else None
    start, stop, step = part.indices(size)
    return view.along(axis, Reading(step, ((start,),)), len(range(start, stop, step)))


def sliced(call, views):
    """`keras.ops.slice`."""
    starts = call.args[1]
    if len(views) > 1 or None in views[0].shape[1:]:
        return None
    view = views[0]
    for axis, (start, size) in enumerate(zip(starts, call.outputs[0].shape, strict=True)):
        view = view.along(axis, window(1, before=-int(start)), size)
    return view


def split(call, views):
    """`keras.ops.split` and `unstack`: a slice for each output."""
    (view,), axis = views, call.operation.axis % len(views[0].axes)
    if view.shape[axis] is None:
        return None
    results, start = [], 0
    for tensor in call.outputs:
        same_rank = len(tensor.shape) == len(view.axes)
        size = tensor.shape[axis] if same_rank else 1
        part = _part(view, axis, slice(start, start + size))
        results.append(part if same_rank else effects.reduced(part, [axis], tensor.shape))
        start += size
    return results


def take(call, views):
    """`keras.ops.take` of constant indices along one axis."""
    indices, axis = call.args[1], call.operation.axis
    if len(views) > 1 or axis is None or views[0].shape[axis] is None:
        return None
    indices = np.array(indices)
    if indices.ndim > 1 or not indices.size:
        return None
    view, axis = views[0], axis % len(views[0].axes)
    places = (indices.ravel() % view.shape[axis]).tolist()
    view = view.along(axis, listed(places), len(places))
    return view if indices.ndim else effects.reduced(view, [axis], call.outputs[0].shape)


def flip(call, views):
    """Backwards along its axes; `fliplr` is that of axis 1, `flipud` that of axis 0."""
    view, fixed = views[0], {"Fliplr": 1, "Flipud": 0}.get(type(call.operation).__name__)
    for axis in effects.axes_of(call.operation.axis if fixed is None else fixed, view):
        if view.shape[axis] is None:
            return None
        view = view.along(axis, Reading(-1, ((view.shape[axis] - 1,),)), view.shape[axis])
    return view


def roll(call, views):
    """In theory the row goes on with its other end."""
    view, shifts, axes = views[0], call.operation.shift, call.operation.axis
    if axes is None:
        return None
    shifts, axes = (value if isinstance(value, (tuple, list)) else (value,) for value in (shifts, axes))
    for axis, shift in zip(axes, shifts * len(axes) if len(shifts) == 1 else shifts, strict=True):
        view = view.along(axis, window(1, before=shift, border="circular"), view.shape[axis])
    return view


def repeat(call, views):
    """Each unit several times."""
    repeats, axis = call.operation.repeats, call.operation.axis
    if axis is None or (not isinstance(repeats, int) and views[0].shape[axis] is None):
        return None
    if isinstance(repeats, int):
        return views[0].along(axis, Reading(1, ((0,),) * repeats), call.outputs[0].shape[axis])
    size = views[0].shape[axis]
    places = [unit for unit, count in enumerate(np.broadcast_to(repeats, size).tolist()) for _ in range(count)]
    return views[0].along(axis, listed(places), len(places))


def tile(call, views):
    """The row several times, end to end: in theory it goes on with its other end."""
    shape = call.outputs[0].shape
    view = views[0].reshaped((1,) * (len(shape) - len(views[0].axes)) + views[0].shape)
    for axis, size in enumerate(shape):
        view = view.along(axis, window(1, border="circular"), size)
    return view


def stack(call, views):
    """Along a new axis."""
    shape = call.outputs[0].shape
    axis = call.operation.axis % len(shape)
    ones = [replace(v, axes=(*v.axes[:axis], (Atom(None, 1),), *v.axes[axis:])) for v in views]
    return joined(ones, axis, shape)


def transpose(call, views):
    """Axes in another order: `transpose`, `swapaxes` and `moveaxis`."""
    operation, rank = call.operation, len(views[0].axes)
    order = list(range(rank))
    if hasattr(operation, "axis1"):
        one, other = operation.axis1, operation.axis2
        order[one], order[other] = order[other], order[one]
    elif hasattr(operation, "source"):
        moved = [axis % rank for axis in operation.source]
        order = [axis for axis in order if axis not in moved]
        for place, axis in sorted((to % rank, axis) for axis, to in zip(moved, operation.destination, strict=True)):
            order.insert(place, axis)
    else:
        order = operation.axes or order[::-1]
    return views[0].transposed(order)


def pad(call, views):
    """`keras.ops.pad`, whose one pair of amounts stands for all axes."""
    widths, view = call.operation.pad_width, views[0]
    amounts = [before for before, _ in widths] * (len(view.axes) if len(widths) == 1 else 1)
    border = BORDERS.get(call.operation.mode, call.operation.mode)
    return effects.shifted(call, view, range(len(amounts)), amounts, border) if border in PADS else None


def patches(call, views):
    """`keras.ops.image.extract_patches`: the cells of each window side by side, before the channels of a cell."""
    view, operation = views[0], call.operation
    if len(view.axes) != len(operation.size) + 2 or None in view.shape or operation.data_format == "channels_first":
        return None
    count = 0
    for axis, (size, stride, padding, dilation) in enumerate(effects.kernel_of(operation, operation.size), 1):
        before, _ = geometry.padding_amounts(view.shape[axis], size, stride, padding, dilation)
        new = call.outputs[0].shape[axis]
        taps = tuple((tap * dilation - before,) for tap in range(size))
        view = view.along(axis, Reading(stride, taps), new * size)
        outer, inner = cut(view.axes[axis], new)
        channels = view.axes[-1]
        view = view.with_axis(axis, outer).with_axis(-1, (*channels[:count], *inner, *channels[count:]))
        count += len(inner)
    return view.with_axis(-1, coalesced(view.axes[-1]))


def depth_to_space(call, views):
    """The outer channels become the inner parts of the axes."""
    view, block, channels = views[0], call.operation.block_size, effects.channel_axis(call)
    rest = view.axes[channels]
    for axis in effects.spatial_axes(call):
        inner, rest = cut(rest, block)
        if inner is None:
            return None
        view = view.with_axis(axis, coalesced((*view.axes[axis], *inner)))
    return view.with_axis(channels, rest or (Atom(None, 1),))


def space_to_depth(call, views):
    """The inner parts of the axes become the outer channels."""
    view, block, channels, inside = views[0], call.operation.block_size, effects.channel_axis(call), []
    for axis in effects.spatial_axes(call):
        outer, inner = cut(view.axes[axis], view.shape[axis] and view.shape[axis] // block)
        if not inner:
            return None
        view = view.with_axis(axis, outer)
        inside += inner
    return view.with_axis(channels, coalesced((*inside, *view.axes[channels])))
