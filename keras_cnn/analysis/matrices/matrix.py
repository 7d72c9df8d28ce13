"""A convolution is a linear map: here it is written as a sparse matrix.

Dumoulin & Visin, 2016, *A guide to convolution arithmetic for deep learning*, arXiv:1603.07285, section 4.1. No entry is
found by trial: index arithmetic gives the input cell that each tap of the kernel meets.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops
from scipy import sparse

from keras_cnn import arguments, geometry, layers
from keras_cnn.analysis.fields.taps import NUMPY_PADDING, OUTSIDE
from keras_cnn.layers.convolution import axis_paddings


def convolution_matrix(layer: keras.Layer, input_shape: Sequence[int]) -> sparse.csr_array:
    """The matrix A of a convolution layer: `A @ x.ravel()` is `layer(x[None])[0].ravel()` without bias and activation.

    The transposed convolution is `A.T`: it goes from an output of the layer to an input. Only the entries that hold a
    weight are stored, about outputs · K · channels / groups, with K the cells of the kernel: memory grows with the number of
    multiplications. Weights of zero are stored as well, so that the pattern shows the geometry.

    Args:
        layer: A `keras.layers` convolution of 1, 2 or 3 axes: `Conv*`, `Conv*Transpose`, `DepthwiseConv*`,
            `SeparableConv*`; or `keras_cnn.layers.Conv*`, `ConvAdjoint*`. It is built if it has no weights.
        input_shape: Shape of one input without the batch, `(height, width, channels)`, or `(channels, height, width)`
            if the layer is channels_first. All sizes known.

    Returns:
        `scipy.sparse.csr_array` of shape (size of the output, size of the input), in the dtype of the kernel.

    Raises:
        TypeError: If `layer` is not one of these, or a subclass that computes something else.
        ValueError: If `input_shape` has another rank or number of channels, or a size of None.

    Example:
        >>> convolution_matrix(keras.layers.Conv2D(1, 3), (4, 4, 1)).shape
        (4, 16)
    """
    make_matrix = _find_maker(layer)
    input_shape = _check_shape(layer, input_shape)
    return make_matrix(layer, input_shape).tocsr()


def _convolution(conv, input_shape):
    mode = getattr(conv, "padding_mode", "zeros")
    return _kernel_matrix(_array(conv.kernel), conv.groups, conv, input_shape, mode)


def _depthwise(layer, input_shape, kernel=None):
    """A grouped convolution, each channel a group."""
    kernel = _array(layer.kernel) if kernel is None else kernel
    *sizes, channels, multiplier = kernel.shape
    return _kernel_matrix(kernel.reshape(*sizes, 1, channels * multiplier), channels, layer, input_shape)


def _separable(layer, input_shape):
    """The 1 x 1 convolution after the depthwise one."""
    depthwise = _depthwise(layer, input_shape, _array(layer.depthwise_kernel))
    weights = _array(layer.pointwise_kernel).reshape(layer.pointwise_kernel.shape[-2:]).T  # (filters, channels)
    positions = sparse.eye_array(depthwise.shape[0] // weights.shape[1], dtype=weights.dtype)
    order = (weights, positions) if layer.data_format == "channels_first" else (positions, weights)
    return sparse.kron(*order) @ depthwise


def _transposed(layer, input_shape):
    """The transpose of the convolution with the same kernel, which goes from the output's size to the input's."""
    sizes = _spatial_sizes(layer, layer.compute_output_shape((None, *input_shape))[1:])
    cells = []
    for size, outputs, kernel_size, strides, dilation_rate in zip(
        sizes, _spatial_sizes(layer, input_shape), layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
    ):
        reached = (outputs - 1) * strides + geometry.effective_kernel_size(kernel_size, dilation_rate)
        dropped = max(reached - size, 0)  # cells of the full product that "same" drops
        before = dropped // 2 if layer.padding == "same" else 0
        amounts = (before, dropped - before)
        cells.append(_cells_under_taps(size, outputs, kernel_size, strides, dilation_rate, amounts, "zeros"))
    return _assemble(_array(layer.kernel), 1, cells, sizes, layer.data_format).T


def _adjoint(layer, input_shape):
    return convolution_matrix(layer.conv, layer.compute_output_shape((None, *input_shape))[1:]).T


def _kernel_matrix(kernel, groups, layer, input_shape, mode="zeros"):
    sizes = _spatial_sizes(layer, input_shape)
    cells = []
    for size, padding, kernel_size, strides, dilation_rate in zip(
        sizes, axis_paddings(layer), layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
    ):
        axis = (size, kernel_size, strides, padding, dilation_rate)
        amounts = geometry.padding_amounts(*axis)
        outputs = geometry.output_size(*axis)
        cells.append(_cells_under_taps(size, outputs, kernel_size, strides, dilation_rate, amounts, mode))
    return _assemble(kernel, groups, cells, sizes, layer.data_format)


def _cells_under_taps(size, outputs, kernel_size, strides, dilation_rate, amounts, mode):
    """Along one axis: the input cell under each tap of each output cell, (outputs, kernel_size); `OUTSIDE`: a padded zero."""
    padded = np.pad(np.arange(size, dtype=np.int32), amounts, **NUMPY_PADDING[mode])
    return padded[np.arange(outputs)[:, None] * strides + np.arange(kernel_size) * dilation_rate]


def _cells_of_all_axes(cells, sizes):
    """`_cells_under_taps` of all axes together: (positions of the output, taps), as indices into the raveled positions."""
    together = np.zeros((1, 1), np.int32)
    for size, of_axis in zip(sizes, cells, strict=True):
        left = together[:, None, :, None]
        right = of_axis[None, :, None, :]
        together = np.where((left >= 0) & (right >= 0), left * size + right, OUTSIDE)
        together = together.reshape(together.shape[0] * together.shape[1], -1)
    return together


def _assemble(kernel, groups, cells, sizes, data_format):
    """The matrix of a kernel `(*kernel_size, channels / groups, filters)` from `_cells_under_taps` of each axis.

    A row is an output cell (position, filter), and its entries are (tap, channel of the filter's group): four axes.
    """
    positions = math.prod(sizes)
    depth, filters = kernel.shape[-2:]
    group = np.arange(filters, dtype=np.int32) // (filters // groups)
    channel = (group[:, None] * depth + np.arange(depth, dtype=np.int32))[None, :, None, :]
    cell = _cells_of_all_axes(cells, sizes)[:, None, :, None]
    last = data_format == "channels_last"
    column = cell * (depth * groups) + channel if last else channel * positions + cell
    values = kernel.reshape(1, -1, depth, filters).transpose(0, 3, 1, 2)
    blocks = [block if last else block.swapaxes(0, 1) for block in (column, values, cell >= 0)]
    columns, values, inside = np.broadcast_arrays(*blocks)
    starts = np.append(0, np.cumsum(np.count_nonzero(inside, axis=(2, 3))))
    starts = starts.astype(sparse.get_index_dtype(maxval=starts[-1]))  # else SciPy widens `columns` as well
    shape = (starts.size - 1, positions * depth * groups)
    matrix = sparse.csr_array((values[inside], columns[inside], starts), shape)
    matrix.sum_duplicates()  # a padding mode other than zeros reads some cells twice
    return matrix


_MAKERS = {
    **dict.fromkeys((keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D), _convolution),
    **dict.fromkeys((layers.Conv1D, layers.Conv2D, layers.Conv3D), _convolution),
    **dict.fromkeys((keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D), _depthwise),
    **dict.fromkeys((keras.layers.SeparableConv1D, keras.layers.SeparableConv2D), _separable),
    **dict.fromkeys(
        (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose), _transposed
    ),
    **dict.fromkeys((layers.ConvAdjoint1D, layers.ConvAdjoint2D, layers.ConvAdjoint3D), _adjoint),
}


def _find_maker(layer):
    """The function for the layer's class, or for the known class that it computes as."""
    cls = type(layer)
    for known in cls.__mro__:
        if known in _MAKERS:
            methods = ("call", "convolution_op")
            if all(getattr(cls, name, None) is getattr(known, name, None) for name in methods):
                return _MAKERS[known]
            break
    expected = "a convolution layer of Keras or of keras_cnn, or a subclass that computes the same"
    raise TypeError(arguments.message("convolution_matrix", "layer", expected, layer))


def _check_shape(layer, input_shape):
    """`input_shape` as a tuple that fits the layer, which is built now if it has no weights."""
    owner = "convolution_matrix"
    shape = tuple(input_shape)
    conv = getattr(layer, "conv", layer)
    if len(shape) != conv.rank + 1 or not all(isinstance(size, numbers.Integral) and size > 0 for size in shape):
        expected = f"{conv.rank} sizes and the channels, all known, without the batch"
        raise ValueError(arguments.message(owner, "input_shape", expected, shape))
    if not layer.built:
        layer.build((None, *shape))
    ((axis, channels),) = layer.input_spec.axes.items()
    if (None, *shape)[axis] != channels:
        expected = f"a shape with the {channels} channels that the layer was built for"
        raise ValueError(arguments.message(owner, "input_shape", expected, shape, f"It is {conv.data_format}."))
    return shape


def _spatial_sizes(layer, shape):
    return shape[1:] if layer.data_format == "channels_first" else shape[:-1]


def _array(variable):
    """As NumPy; half precision, which SciPy does not know, as float32."""
    array = ops.convert_to_numpy(variable)
    return array if array.dtype == np.float64 else array.astype(np.float32)
