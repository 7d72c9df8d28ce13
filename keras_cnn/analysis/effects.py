"""What a call does to receptive fields: each function here maps a call and the views of its inputs to the output's view.

Fields are those at inference. A function that returns None does not know.
"""

from __future__ import annotations

from dataclasses import replace

import keras

from keras_cnn import geometry
from keras_cnn.analysis.reach import resampling, transposed_window, window
from keras_cnn.analysis.view import Atom, merged
from keras_cnn.layers.convolution import axis_paddings


def elementwise(call, views):
    """Each unit reads the unit at its own place of each input, with the broadcasting of NumPy."""
    return merged(views, call.outputs[0].shape)


def merge(call, views):
    """`keras.layers.Add` and its like: axes that an input lacks stand after the batch axis."""
    rank = len(call.outputs[0].shape)
    ones = [((Atom(None, 1),),) * (rank - len(view.axes)) for view in views]
    return elementwise(
        call, [replace(v, axes=v.axes[:1] + gap + v.axes[1:]) for v, gap in zip(views, ones, strict=True)]
    )


def convolution(call, views):
    """`keras.layers.Conv*`, `DepthwiseConv*`, `SeparableConv*` and layers of ours."""
    layer = call.operation
    kernel = zip(layer.kernel_size, layer.strides, axis_paddings(layer), layer.dilation_rate, strict=True)
    # Channels first: a reshape may have laid parts of the map among them.
    mixed = channels_mixed(call, views[0])
    if isinstance(layer, (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)):
        parts = {s for s, reach in enumerate(mixed.local) if reach and reach != views[0].local[s]}
        mixed = replace(mixed, bounded=mixed.bounded | parts)  # it sees one of those parts, not all
    return windows(call, mixed, kernel)


def pooling(call, views):
    layer = call.operation
    paddings = (layer.padding,) * len(layer.pool_size)
    return windows(call, views[0], zip(layer.pool_size, layer.strides, paddings, (1,) * len(paddings), strict=True))


def transposed_convolution(call, views):
    layer, view = call.operation, views[0]
    output_paddings = layer.output_padding or (None,) * layer.rank
    kernel = zip(layer.kernel_size, layer.strides, layer.dilation_rate, output_paddings, strict=True)
    for axis, (size, stride, dilation, output_padding) in zip(spatial_axes(call), kernel, strict=True):
        # TensorFlow's "same" is that of the convolution that makes the input of the output; all sizes crop alike.
        any_size = geometry.transposed_output_size(99, size, stride, layer.padding, dilation, output_padding)
        crop, _ = geometry.padding_amounts(any_size, size, stride, layer.padding, dilation)
        view = view.along(axis, transposed_window(size, stride, crop, dilation), call.outputs[0].shape[axis])
    return channels_mixed(call, view)


def adjoint(call, views):
    """`keras_cnn.layers.ConvAdjoint*`."""
    conv, view, shape = call.operation.conv, views[0], call.outputs[0].shape
    kernel = zip(conv.kernel_size, conv.strides, axis_paddings(conv), conv.dilation_rate, strict=True)
    for axis, (size, stride, padding, dilation) in zip(spatial_axes(call), kernel, strict=True):
        crop, _ = geometry.padding_amounts(shape[axis], size, stride, padding, dilation)
        shift = call.name if crop is None else None
        view = view.along(axis, transposed_window(size, stride, crop or 0, dilation), shape[axis], shift)
    return channels_mixed(call, view)


def global_pooling(call, views):
    return reduced(views[0], spatial_axes(call), call.outputs[0].shape)


def adaptive_pooling(call, views):
    """Unit i reads from floor(i * size / new) to ceil((i + 1) * size / new) - 1."""
    view, shape = views[0], call.outputs[0].shape
    for axis in spatial_axes(call):
        size, new = view.shape[axis], shape[axis]
        if size is None or new is None:
            return None
        taps = tuple(tuple(range(i * size // new, -(-(i + 1) * size // new))) for i in range(new))
        view = view.along(axis, (size, taps), new)
    return view


def padding(call, views):
    return shifted(call, views[0], spatial_axes(call), [before for before, _ in _pairs(call.operation.padding)])


def cropping(call, views):
    return shifted(call, views[0], spatial_axes(call), [-before for before, _ in _pairs(call.operation.cropping)])


def center_crop(call, views):
    """`keras.layers.CenterCrop` where the image is large enough; otherwise it resizes."""
    view, shape = views[0], call.outputs[0].shape
    axes = spatial_axes(call)
    if any(view.shape[a] is None or shape[a] is None or view.shape[a] < shape[a] for a in axes):
        return None
    return shifted(call, view, axes, [-((view.shape[axis] - shape[axis]) // 2) for axis in axes])


def upsampling(call, views):
    layer, view, shape = call.operation, views[0], call.outputs[0].shape
    factors = layer.size if isinstance(layer.size, (tuple, list)) else (layer.size,)
    interpolation = getattr(layer, "interpolation", "nearest")
    if interpolation not in ("nearest", "bilinear", "bicubic"):
        return None
    for axis, factor in zip(spatial_axes(call), factors, strict=True):
        view = view.along(axis, resampling(1, factor, interpolation), shape[axis])
    return view


def resizing(call, views):
    """`keras.layers.Resizing` and `keras.ops.image.resize`."""
    layer, view, shape = call.operation, views[0], call.outputs[0].shape
    axes = spatial_axes(call)
    sizes = [(view.shape[axis], shape[axis]) for axis in axes]
    plain = not (layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio)
    known = None not in sum(sizes, ()) and layer.interpolation in ("nearest", "bilinear", "bicubic")
    if not (plain and known) or (layer.antialias and any(new < size for size, new in sizes)):
        return None
    for axis, (size, new) in zip(axes, sizes, strict=True):
        view = view.along(axis, resampling(size, new, layer.interpolation), new)
    return view


def reshape(call, views):
    """Also `Flatten`, and operations that add or take away axes of size 1."""
    return views[0].reshaped(call.outputs[0].shape)


def permute(call, views):
    return views[0].transposed((0, *call.operation.dims))


def repeat_vector(call, views):
    (batch, channels), size = views[0].axes, call.outputs[0].shape[1]
    return replace(views[0], axes=(batch, (Atom(None, size),), channels))


def dense(call, views):
    """Each unit reads the last axis."""
    return views[0].mixed([-1]).resized(len(views[0].axes) - 1, call.outputs[0].shape[-1])


def einsum_dense(call, views):
    left, right = call.operation.equation.replace(" ", "").split("->")
    left = left.split(",")[0]
    if "..." in left:  # axes that the equation does not name stand before those that it does
        letters = "ABCDEFG"[: len(views[0].axes) - len(left.replace("...", ""))]
        left, right = left.replace("...", letters), right.replace("...", letters)
    return sum_of_products(f"{left}->{right}", views, call.outputs[0].shape)


def embedding(call, views):
    return replace(views[0], axes=(*views[0].axes, (Atom(None, call.outputs[0].shape[-1]),)))


def normalization_over(choose):
    """A normalisation by statistics over axes: each unit stays at its place and sees them all besides."""

    def effect(call, views):
        return views[0].mixed(choose(call, views[0]), keep=True)

    return effect


def over_axis(call, view):
    """The axis or axes that a layer or an operation has as `axis`."""
    return axes_of(call.operation.axis, view)


def over_space_and_groups(call, view):
    return range(1, len(view.axes))


def activation(call, views):
    """`keras.layers.Activation`: softmax reads the last axis, others are elementwise."""
    if call.operation.activation in (keras.activations.softmax, keras.activations.log_softmax):
        return views[0].mixed([len(views[0].axes) - 1], keep=True)
    return views[0]


def recurrent(call, views):
    """The state has passed over the whole sequence; a unit of a sequence of outputs sees no more than that."""
    view, shape = views[0], call.outputs[0].shape
    if len(view.axes) != 3:
        return None
    sources = frozenset(atom.source for atom in view.axes[1]) - {None}
    view = view.mixed([1, 2])
    axes = tuple((Atom(None, size),) for size in shape)
    return replace(view, axes=axes, bounded=sources if len(shape) == 3 else frozenset())


def concatenate(call, views):
    shape = call.outputs[0].shape
    axis = call.operation.axis % len(shape)
    sources = frozenset(atom.source for view in views for atom in view.axes[axis]) - {None}
    joined = merged([view.mixed([axis]).resized(axis, shape[axis]) for view in views], shape)
    return replace(joined, bounded=joined.bounded | sources)


def spatial_axes(call):
    """Tensor axes that are neither batch nor channels, by the data format of the layer or operation."""
    rank = len(call.inputs[0].shape)
    return range(2, rank) if data_format(call.operation) == "channels_first" else range(1, rank - 1)


def data_format(operation):
    """That of a layer or operation, or of the convolution that it transposes; None if it has none."""
    return getattr(getattr(operation, "conv", operation), "data_format", None)


def axes_of(axis, view):
    """An `axis` argument, as a list of axes: None is all of them but the batch."""
    rank = len(view.axes)
    if axis is None:
        return list(range(1, rank))
    return [one % rank for one in (axis if isinstance(axis, (tuple, list)) else (axis,))]


def sum_of_products(subscripts, views, shape):
    """An einsum; a view of None is that of a weight."""
    lefts, result = subscripts.split("->")
    terms = []
    for letters, view in zip(lefts.split(","), views, strict=True):
        if view is not None:
            mixed = view.mixed([axis for axis, letter in enumerate(letters) if letter not in result])
            axes = [mixed.axes[letters.index(one)] if one in letters else (Atom(None, 1),) for one in result]
            terms.append(replace(mixed, axes=tuple(axes)))
    return merged(terms, shape)


def reduced(view, axes, shape):
    """`view` of which each unit reads all along `axes`, which are then gone, or of size 1."""
    view = view.mixed(axes)
    if len(shape) == len(view.axes):
        for axis in axes:
            view = view.resized(axis, 1)
        return view
    return replace(view, axes=tuple(atoms for axis, atoms in enumerate(view.axes) if axis not in axes))


def shifted(call, view, axes, amounts):
    """`view` with so many cells more before the first, along each axis."""
    for axis, before in zip(axes, amounts, strict=True):
        view = view.along(axis, window(1, before=before), call.outputs[0].shape[axis])
    return view


def windows(call, view, kernel):
    """`view` behind kernels: (size, stride, padding, dilation) for each spatial axis."""
    for axis, (size, stride, padding, dilation) in zip(spatial_axes(call), kernel, strict=True):
        before, _ = geometry.padding_amounts(view.shape[axis], size, stride, padding, dilation)
        shift = call.name if before is None else None
        view = view.along(axis, window(size, stride, before or 0, dilation), call.outputs[0].shape[axis], shift)
    return view


def channels_mixed(call, view):
    axis = 1 if data_format(call.operation) == "channels_first" else len(view.axes) - 1
    return view.mixed([axis]).resized(axis, call.outputs[0].shape[axis])


def _pairs(amounts):
    """(before, after) for each axis; layers of one axis have just the pair."""
    return (amounts,) if isinstance(amounts[0], int) else amounts
