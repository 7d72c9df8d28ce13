"""What a call does to receptive fields: each function here maps a call and the views of its inputs to the output's view.

Fields are those at inference. A function that returns None does not know; one of a call with several outputs returns a
list of views.
"""

from __future__ import annotations

from dataclasses import replace

import keras

from keras_cnn import geometry
from keras_cnn.analysis.fields.axis_parts import Atom
from keras_cnn.analysis.fields.merging import joined, merged
from keras_cnn.analysis.fields.taps import Reading, resampling, transposed, transposed_window, window
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
    view = windows(call, views[0], kernel, getattr(layer, "padding_mode", "zeros"))
    if isinstance(layer, (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)):
        return channels_mixed(call, view, groups=view.shape[channel_axis(call)])
    return channels_mixed(call, view, getattr(layer, "groups", 1))


def pooling(call, views):
    """Pooling in windows: one for each channel."""
    layer = call.operation
    paddings = (layer.padding,) * len(layer.pool_size)
    return windows(call, views[0], zip(layer.pool_size, layer.strides, paddings, (1,) * len(paddings), strict=True))


def transposed_convolution(call, views):
    """`keras.layers.Conv*Transpose`."""
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
    mode = getattr(conv, "padding_mode", "zeros")
    kernel = zip(conv.kernel_size, conv.strides, axis_paddings(conv), conv.dilation_rate, strict=True)
    for axis, (size, stride, padding, dilation) in zip(spatial_axes(call), kernel, strict=True):
        before, after = geometry.padding_amounts(shape[axis], size, stride, padding, dilation)
        shift = call.name if before is None else None
        reading = transposed_window(size, stride, before or 0, dilation, shift)
        if mode != "zeros" and (before or after):  # a cell also reads what the padding that copied it gave
            if None in (view.shape[axis], shape[axis]):
                return None
            forward = window(size, stride, before, dilation, mode)
            reading = transposed(forward.columns(shape[axis], view.shape[axis]), shape[axis])
        view = view.along(axis, reading, shape[axis])
    return channels_mixed(call, view, conv.groups)


def global_pooling(call, views):
    """One unit a channel, which reads the whole map."""
    return reduced(views[0], spatial_axes(call), call.outputs[0].shape)


def adaptive_pooling(call, views):
    """Unit i reads from floor(i * size / new) to ceil((i + 1) * size / new) - 1."""
    view, shape = views[0], call.outputs[0].shape
    for axis in spatial_axes(call):
        size, new = view.shape[axis], shape[axis]
        if size is None or new is None:
            return None
        taps = tuple(tuple(range(i * size // new, -(-(i + 1) * size // new))) for i in range(new))
        view = view.along(axis, Reading(size, taps), new)
    return view


def padding(call, views):
    """`keras.layers.ZeroPadding*`."""
    return shifted(call, views[0], spatial_axes(call), [before for before, _ in _pairs(call.operation.padding)])


def cropping(call, views):
    """`keras.layers.Cropping*`."""
    return shifted(call, views[0], spatial_axes(call), [-before for before, _ in _pairs(call.operation.cropping)])


def center_crop(call, views):
    """`keras.layers.CenterCrop` where the image is large enough; otherwise it resizes."""
    view, shape = views[0], call.outputs[0].shape
    axes = spatial_axes(call)
    if any(view.shape[a] is None or shape[a] is None or view.shape[a] < shape[a] for a in axes):
        return None
    return shifted(call, view, axes, [-((view.shape[axis] - shape[axis]) // 2) for axis in axes])


def upsampling(call, views):
    """`keras.layers.UpSampling*`."""
    layer, view, shape = call.operation, views[0], call.outputs[0].shape
    factors = layer.size if isinstance(layer.size, (tuple, list)) else (layer.size,)
    interpolation = getattr(layer, "interpolation", "nearest")
    for axis, factor in zip(spatial_axes(call), factors, strict=True):
        view = view.along(axis, resampling(1, factor, interpolation), shape[axis])
    return view


def resizing(call, views):
    """`keras.layers.Resizing` and `keras.ops.image.resize`."""
    layer, view, shape = call.operation, views[0], call.outputs[0].shape
    axes = spatial_axes(call)
    if layer.pad_to_aspect_ratio or any(None in (view.shape[axis], shape[axis]) for axis in axes):
        return None
    if layer.crop_to_aspect_ratio:
        view = _cropped_to_ratio(view, axes, [shape[axis] for axis in axes])
    for axis in axes:
        reading = resampling(view.shape[axis], shape[axis], layer.interpolation, layer.antialias)
        view = view.along(axis, reading, shape[axis])
    return view


def _cropped_to_ratio(view, axes, target):
    """The middle of a map, of the aspect ratio of `target`, as Keras rounds it."""
    sizes = [view.shape[axis] for axis in axes]
    for axis, size, other, new, other_new in zip(axes, sizes, sizes[::-1], target, target[::-1], strict=True):
        kept = max(min(size, int(other * new / other_new)), 1)
        view = view.along(axis, window(1, before=-((size - kept) // 2)), kept)
    return view


def reshape(call, views):
    """Also `Flatten`, and operations that add or take away axes of size 1."""
    return views[0].reshaped(call.outputs[0].shape)


def permute(call, views):
    """`keras.layers.Permute`, which counts axes from the first after the batch."""
    return views[0].transposed((0, *call.operation.dims))


def repeat_vector(call, views):
    """`keras.layers.RepeatVector`."""
    (batch, channels), size = views[0].axes, call.outputs[0].shape[1]
    return replace(views[0], axes=(batch, (Atom(None, size),), channels))


def dense(call, views):
    """Each unit reads the last axis."""
    return views[0].mixed([-1]).resized(-1, call.outputs[0].shape[-1])


def einsum_dense(call, views):
    """`keras.layers.EinsumDense`: what its equation says."""
    left, right = call.operation.equation.replace(" ", "").split("->")
    left = left.split(",")[0]
    if "..." in left:  # axes that the equation does not name stand before those that it does
        letters = "ABCDEFG"[: len(views[0].axes) - len(left.replace("...", ""))]
        left, right = left.replace("...", letters), right.replace("...", letters)
    return sum_of_products(f"{left}->{right}", views, call.outputs[0].shape)


def embedding(call, views):
    """Each index becomes channels."""
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
    """All axes but the batch: of `GroupNormalization`, whose groups are of channels."""
    return range(1, len(view.axes))


def activation(call, views):
    """`keras.layers.Activation`: softmax reads the last axis, others are elementwise."""
    if call.operation.activation in (keras.activations.softmax, keras.activations.log_softmax):
        return views[0].mixed([len(views[0].axes) - 1], keep=True)
    return views[0]


def concatenate(call, views):
    """One map beside the other."""
    shape = call.outputs[0].shape
    return joined(views, call.operation.axis % len(shape), shape)


def spatial_axes(call):
    """Tensor axes that are neither batch nor channels, by the data format of the layer or operation."""
    rank = len(call.inputs[0].shape)
    return range(2, rank) if data_format(call.operation) == "channels_first" else range(1, rank - 1)


def channel_axis(call):
    """The axis of channels, by the data format of the layer or operation."""
    return 1 if data_format(call.operation) == "channels_first" else len(call.inputs[0].shape) - 1


def data_format(operation):
    """That of a layer or operation, or of the convolution that it transposes; None if it has none."""
    return getattr(getattr(operation, "conv", operation), "data_format", None)


def axes_of(axis, view):
    """An `axis` argument, as a list of axes: None is all of them."""
    rank = len(view.axes)
    if axis is None:
        return list(range(rank))
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


def shifted(call, view, axes, amounts, border="zeros"):
    """`view` with so many cells more before the first, along each axis."""
    for axis, before in zip(axes, amounts, strict=True):
        view = view.along(axis, window(1, before=before, border=border), call.outputs[0].shape[axis])
    return view


def windows(call, view, kernel, border="zeros"):
    """`view` behind kernels: (size, stride, padding, dilation) for each spatial axis."""
    for axis, (size, stride, padding, dilation) in zip(spatial_axes(call), kernel, strict=True):
        before, _ = geometry.padding_amounts(view.shape[axis], size, stride, padding, dilation)
        shift = call.name if before is None else None
        reading = window(size, stride, before or 0, dilation, border, shift)
        view = view.along(axis, reading, call.outputs[0].shape[axis])
    return view


def kernel_of(operation, sizes):
    """(size, stride, padding, dilation) for each spatial axis of an operation with a kernel of these sizes."""
    strides, dilations = (
        value if isinstance(value, (tuple, list)) else (value,) * len(sizes)
        for value in (operation.strides or sizes, getattr(operation, "dilation_rate", 1))
    )
    return zip(sizes, strides, (operation.padding.lower(),) * len(sizes), dilations, strict=True)


def channels_mixed(call, view, groups=1):
    """Each channel reads all channels of its group."""
    axis = channel_axis(call)
    return view.mixed_within(axis, groups, call.outputs[0].shape[axis])


def _pairs(amounts):
    """(before, after) for each axis; layers of one axis have just the pair."""
    return (amounts,) if isinstance(amounts[0], int) else amounts
