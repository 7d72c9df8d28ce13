"""What a call does to receptive fields: each rule maps a call and the fields of its inputs to the field of its output.

Fields are those at inference. A rule that returns None does not know; that of a call with several outputs returns a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias

import keras

from keras_cnn import geometry
from keras_cnn.analysis.fields.axis_parts import plain_axis
from keras_cnn.analysis.fields.call_axes import axis_list, channel_axis, spatial_axes
from keras_cnn.analysis.fields.merging import concatenate, merge
from keras_cnn.analysis.fields.taps import (
    Taps,
    kernel_taps,
    resampling_taps,
    transposed_kernel_taps,
    transposed_taps,
)
from keras_cnn.analysis.fields.tensor_field import Fields, RuleResult, TensorField
from keras_cnn.analysis.tracing import Call
from keras_cnn.layers.convolution import axis_paddings

# (size, stride, padding, dilation) of a kernel, per spatial axis.
Kernel: TypeAlias = Iterable[tuple]


def elementwise(call: Call, fields: Fields) -> RuleResult:
    """Each unit reads the unit at its own position of each input, with the broadcasting of NumPy."""
    return merge(fields, call.outputs[0].shape)


def merging_layer(call: Call, fields: Fields) -> RuleResult:
    """`keras.layers.Add` and similar layers: axes that an input lacks come right after the batch axis."""
    rank = len(call.outputs[0].shape)
    return elementwise(call, [_with_rank(field, rank) for field in fields])


def _with_rank(field: TensorField, rank: int) -> TensorField:
    missing = (plain_axis(1),) * (rank - len(field.axes))
    return replace(field, axes=field.axes[:1] + missing + field.axes[1:])


def convolution(call: Call, fields: Fields) -> RuleResult:
    """`keras.layers.Conv*`, `DepthwiseConv*`, `SeparableConv*` and those of this package."""
    layer = call.operation
    kernel = zip(layer.kernel_size, layer.strides, axis_paddings(layer), layer.dilation_rate, strict=True)
    field = slide_kernel(call, fields[0], kernel, getattr(layer, "padding_mode", "zeros"))
    if isinstance(layer, (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)):
        return mix_channels(call, field, groups=field.shape[channel_axis(call)])
    return mix_channels(call, field, getattr(layer, "groups", 1))


def pooling(call: Call, fields: Fields) -> RuleResult:
    """Pooling in windows, for each channel alone."""
    layer = call.operation
    rank = len(layer.pool_size)
    kernel = zip(layer.pool_size, layer.strides, (layer.padding,) * rank, (1,) * rank, strict=True)
    return slide_kernel(call, fields[0], kernel)


def transposed_convolution(call: Call, fields: Fields) -> RuleResult:
    """`keras.layers.Conv*Transpose`."""
    layer = call.operation
    field = fields[0]
    output_paddings = layer.output_padding or (None,) * layer.rank
    kernel = zip(layer.kernel_size, layer.strides, layer.dilation_rate, output_paddings, strict=True)
    for axis, (size, stride, dilation, output_padding) in zip(spatial_axes(call), kernel, strict=True):
        # TensorFlow's "same" is that of the convolution that makes the input of the output; all sizes crop alike.
        any_size = geometry.transposed_output_size(99, size, stride, layer.padding, dilation, output_padding)
        crop, _ = geometry.padding_amounts(any_size, size, stride, layer.padding, dilation)
        taps = transposed_kernel_taps(size, stride, crop, dilation)
        field = field.read_along(axis, taps, call.outputs[0].shape[axis])
    return mix_channels(call, field)


def adjoint(call: Call, fields: Fields) -> RuleResult:
    """`keras_cnn.layers.ConvAdjoint*`."""
    conv = call.operation.conv
    field = fields[0]
    shape = call.outputs[0].shape
    mode = getattr(conv, "padding_mode", "zeros")
    kernel = zip(conv.kernel_size, conv.strides, axis_paddings(conv), conv.dilation_rate, strict=True)
    for axis, (size, stride, padding, dilation) in zip(spatial_axes(call), kernel, strict=True):
        before, after = geometry.padding_amounts(shape[axis], size, stride, padding, dilation)
        unknown_padding = call.name if before is None else None
        taps = transposed_kernel_taps(size, stride, before or 0, dilation, unknown_padding)
        if mode != "zeros" and (before or after):  # a cell also reads what the padding that copied it gave
            if None in (field.shape[axis], shape[axis]):
                return None
            forward = kernel_taps(size, stride, before, dilation, mode)
            taps = transposed_taps(forward.indices(shape[axis], field.shape[axis]), shape[axis])
        field = field.read_along(axis, taps, shape[axis])
    return mix_channels(call, field, conv.groups)


def global_pooling(call: Call, fields: Fields) -> RuleResult:
    """One unit for each channel, which reads the whole map."""
    return reduce(fields[0], spatial_axes(call), call.outputs[0].shape)


def adaptive_pooling(call: Call, fields: Fields) -> RuleResult:
    """Unit i reads from floor(i * size / new) to ceil((i + 1) * size / new) - 1."""
    field = fields[0]
    shape = call.outputs[0].shape
    for axis in spatial_axes(call):
        size = field.shape[axis]
        new = shape[axis]
        if size is None or new is None:
            return None
        offsets = tuple(tuple(range(i * size // new, -(-(i + 1) * size // new))) for i in range(new))
        field = field.read_along(axis, Taps(size, offsets), new)
    return field


def padding(call: Call, fields: Fields) -> RuleResult:
    """`keras.layers.ZeroPadding*`."""
    return shift(call, fields[0], spatial_axes(call), [before for before, _ in _pairs(call.operation.padding)])


def cropping(call: Call, fields: Fields) -> RuleResult:
    """`keras.layers.Cropping*`."""
    return shift(call, fields[0], spatial_axes(call), [-before for before, _ in _pairs(call.operation.cropping)])


def center_crop(call: Call, fields: Fields) -> RuleResult:
    """`keras.layers.CenterCrop` where the image is large enough; otherwise it resizes."""
    field = fields[0]
    shape = call.outputs[0].shape
    axes = spatial_axes(call)
    if any(field.shape[a] is None or shape[a] is None or field.shape[a] < shape[a] for a in axes):
        return None
    return shift(call, field, axes, [-((field.shape[axis] - shape[axis]) // 2) for axis in axes])


def upsampling(call: Call, fields: Fields) -> RuleResult:
    """`keras.layers.UpSampling*`."""
    layer = call.operation
    field = fields[0]
    factors = layer.size if isinstance(layer.size, (tuple, list)) else (layer.size,)
    interpolation = getattr(layer, "interpolation", "nearest")
    for axis, factor in zip(spatial_axes(call), factors, strict=True):
        field = field.read_along(axis, resampling_taps(1, factor, interpolation), call.outputs[0].shape[axis])
    return field


def resizing(call: Call, fields: Fields) -> RuleResult:
    """`keras.layers.Resizing` and `keras.ops.image.resize`."""
    layer = call.operation
    field = fields[0]
    shape = call.outputs[0].shape
    axes = spatial_axes(call)
    if layer.pad_to_aspect_ratio or any(None in (field.shape[axis], shape[axis]) for axis in axes):
        return None
    if layer.crop_to_aspect_ratio:
        field = _cropped_to_ratio(field, axes, [shape[axis] for axis in axes])
    for axis in axes:
        taps = resampling_taps(field.shape[axis], shape[axis], layer.interpolation, layer.antialias)
        field = field.read_along(axis, taps, shape[axis])
    return field


def _cropped_to_ratio(field: TensorField, axes: Sequence[int], target: Sequence[int]) -> TensorField:
    """The middle of a map, with the aspect ratio of `target`, as Keras rounds it."""
    sizes = [field.shape[axis] for axis in axes]
    for axis, size, other, new, other_new in zip(axes, sizes, sizes[::-1], target, target[::-1], strict=True):
        kept = max(min(size, int(other * new / other_new)), 1)
        field = field.read_along(axis, kernel_taps(1, before=-((size - kept) // 2)), kept)
    return field


def reshape(call: Call, fields: Fields) -> RuleResult:
    """Also `Flatten`, and operations that add or remove axes of size 1."""
    return fields[0].reshaped(call.outputs[0].shape)


def permute(call: Call, fields: Fields) -> RuleResult:
    """`keras.layers.Permute`, which counts axes from the first after the batch."""
    return fields[0].transposed((0, *call.operation.dims))


def repeat_vector(call: Call, fields: Fields) -> RuleResult:
    """`keras.layers.RepeatVector`."""
    batch, channels = fields[0].axes
    return replace(fields[0], axes=(batch, plain_axis(call.outputs[0].shape[1]), channels))


def dense(call: Call, fields: Fields) -> RuleResult:
    """Each unit reads the last axis."""
    return fields[0].read_all([-1]).with_plain_axis(-1, call.outputs[0].shape[-1])


def einsum_dense(call: Call, fields: Fields) -> RuleResult:
    """`keras.layers.EinsumDense`: what its equation says."""
    left, right = call.operation.equation.replace(" ", "").split("->")
    left = left.split(",")[0]
    if "..." in left:  # axes that the equation does not name come before those that it names
        letters = "ABCDEFG"[: len(fields[0].axes) - len(left.replace("...", ""))]
        left = left.replace("...", letters)
        right = right.replace("...", letters)
    return sum_of_products(f"{left}->{right}", fields, call.outputs[0].shape)


def embedding(call: Call, fields: Fields) -> RuleResult:
    """Each index becomes channels."""
    return replace(fields[0], axes=(*fields[0].axes, plain_axis(call.outputs[0].shape[-1])))


def normalization_over(
    choose_axes: Callable[[Call, TensorField], Iterable[int]],
) -> Callable[[Call, Fields], RuleResult]:
    """A normalisation by statistics over axes: each unit stays at its position, and sees them all in addition."""

    def rule(call: Call, fields: Fields) -> RuleResult:
        return fields[0].read_all(choose_axes(call, fields[0]), keep_local=True)

    return rule


def own_axis(call: Call, field: TensorField) -> list[int]:
    """The axis or axes that a layer or an operation has as `axis`."""
    return axis_list(call.operation.axis, len(field.axes))


def all_but_batch(call: Call, field: TensorField) -> range:
    """The axes of `GroupNormalization`, whose groups are of channels."""
    return range(1, len(field.axes))


def activation(call: Call, fields: Fields) -> RuleResult:
    """`keras.layers.Activation`: softmax reads the last axis, others are elementwise."""
    if call.operation.activation in (keras.activations.softmax, keras.activations.log_softmax):
        return fields[0].read_all([len(fields[0].axes) - 1], keep_local=True)
    return fields[0]


def concatenation(call: Call, fields: Fields) -> RuleResult:
    """`keras.layers.Concatenate` and `keras.ops.concatenate`."""
    shape = call.outputs[0].shape
    return concatenate(fields, call.operation.axis % len(shape), shape)


def sum_of_products(subscripts: str, fields: Sequence[TensorField | None], shape: Sequence[int | None]) -> TensorField:
    """An einsum; a field of None is that of a weight."""
    lefts, result = subscripts.split("->")
    terms = []
    for letters, field in zip(lefts.split(","), fields, strict=True):
        if field is not None:
            summed = field.read_all([axis for axis, letter in enumerate(letters) if letter not in result])
            axes = [summed.axes[letters.index(one)] if one in letters else plain_axis(1) for one in result]
            terms.append(replace(summed, axes=tuple(axes)))
    return merge(terms, shape)


def reduce(field: TensorField, axes: Sequence[int], shape: Sequence[int | None]) -> TensorField:
    """`field` where each unit reads all along `axes`, which are then gone, or of size 1."""
    field = field.read_all(axes)
    if len(shape) == len(field.axes):
        for axis in axes:
            field = field.with_plain_axis(axis, 1)
        return field
    return replace(field, axes=tuple(parts for axis, parts in enumerate(field.axes) if axis not in axes))


def shift(
    call: Call, field: TensorField, axes: Sequence[int], amounts: Sequence[int], border: str = "zeros"
) -> TensorField:
    """`field` with so many more cells before the first, along each axis."""
    for axis, before in zip(axes, amounts, strict=True):
        field = field.read_along(axis, kernel_taps(1, before=before, border=border), call.outputs[0].shape[axis])
    return field


def slide_kernel(call: Call, field: TensorField, kernel: Kernel, border: str = "zeros") -> TensorField:
    """`field` after a kernel."""
    for axis, (size, stride, padding, dilation) in zip(spatial_axes(call), kernel, strict=True):
        before, _ = geometry.padding_amounts(field.shape[axis], size, stride, padding, dilation)
        unknown_padding = call.name if before is None else None
        taps = kernel_taps(size, stride, before or 0, dilation, border, unknown_padding)
        field = field.read_along(axis, taps, call.outputs[0].shape[axis])
    return field


def kernel_of(operation: keras.Operation, sizes: Sequence[int]) -> Kernel:
    """(size, stride, padding, dilation) for each spatial axis of an operation with a kernel of these sizes."""
    strides, dilations = (
        value if isinstance(value, (tuple, list)) else (value,) * len(sizes)
        for value in (operation.strides or sizes, getattr(operation, "dilation_rate", 1))
    )
    return zip(sizes, strides, (operation.padding.lower(),) * len(sizes), dilations, strict=True)


def mix_channels(call: Call, field: TensorField, groups: int = 1) -> TensorField:
    """Each channel reads all channels of its group."""
    axis = channel_axis(call)
    return field.read_all_in_groups(axis, groups, call.outputs[0].shape[axis])


def _pairs(amounts):
    """(before, after) for each axis; layers of one axis have just the pair."""
    return (amounts,) if isinstance(amounts[0], int) else amounts
