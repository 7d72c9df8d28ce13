"""What a call costs at inference, for one example, in plain integers.

Conventions: a multiply-accumulate (MAC) is one multiplication by a kernel, or within a matrix product, with the addition
after it; cells of padding count as data. Bias, normalisation (scale and offset together) and activation count one for each
element that they touch; pooling counts one for each cell of each window; `elementwise` counts the sums and products of
branches, rescaling and similar operations. Dropout, padding and reshaping cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

import keras

from keras_cnn.analysis.fields import op_rules
from keras_cnn.analysis.fields.axis_parts import product
from keras_cnn.analysis.fields.call_axes import data_format
from keras_cnn.analysis.tracing import Call


@dataclass(frozen=True)
class Cost:
    """Operations of a call for one example; None if a size is unknown.

    Example: a 3 x 3 convolution from 3 to 8 channels over 10 x 10 positions, with bias and ReLU.
        >>> Cost(macs=10 * 10 * 3 * 3 * 3 * 8, bias=800, activation=800).macs
        21600
    """

    macs: int | None = 0
    bias: int | None = 0
    normalization: int | None = 0
    activation: int | None = 0
    pooling: int | None = 0
    elementwise: int | None = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*map(sum_or_none, zip(astuple(self), astuple(other), strict=True)))


def num_elements(tensor: keras.KerasTensor) -> int | None:
    """Numbers in a tensor, those of the whole batch."""
    return product(tensor.shape)


def sum_or_none(counts: Iterable[int | None]) -> int | None:
    """The sum of counts; None if one of them is not known."""
    counts = list(counts)
    return None if None in counts else sum(counts)


def free(call: Call) -> Cost:
    """Nothing: for what moves numbers, or does nothing at inference."""
    return Cost()


def normalization(call: Call) -> Cost:
    """Scale and offset together, one for each element."""
    return Cost(normalization=num_elements(call.outputs[0]))


def activation(call: Call) -> Cost:
    """One for each element; nothing for a linear one."""
    linear = getattr(call.operation, "activation", None) is keras.activations.linear
    return Cost() if linear else Cost(activation=num_elements(call.outputs[0]))


def elementwise(call: Call) -> Cost:
    """One for each input after the first, at least one."""
    return Cost(elementwise=_times(num_elements(call.outputs[0]), max(1, len(call.inputs) - 1)))


def merging_layer(call: Call) -> Cost:
    """`keras.layers.Add` and similar layers: one for each input after the first."""
    return Cost(elementwise=_times(num_elements(call.outputs[0]), len(call.inputs) - 1))


def kernel_on_output(call: Call) -> Cost:
    """Convolutions: each output position multiplies by the whole kernel, that of all groups together."""
    return _kernel(call, _num_positions(call.outputs[0], call), call.operation.kernel)


def separable(call: Call) -> Cost:
    """A depthwise convolution and the 1 x 1 convolution after it."""
    layer = call.operation
    weights = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
    return Cost(macs=_times(_num_positions(call.outputs[0], call), weights)) + _bias_and_activation(call)


def kernel_on_input(call: Call) -> Cost:
    """Transposed convolutions: each input position multiplies by the whole kernel."""
    layer = call.operation
    kernel = layer.conv.kernel if hasattr(layer, "conv") else layer.kernel
    return _kernel(call, _num_positions(call.inputs[0], call), kernel)


def dense(call: Call) -> Cost:
    """Each position multiplies by the whole kernel."""
    return _kernel(call, _num_positions(call.outputs[0], call), call.operation.kernel)


def einsum_dense(call: Call) -> Cost:
    """Each output element is a sum over the letters of the kernel that the output lacks."""
    layer = call.operation
    left, result = layer.equation.replace(" ", "").split("->")
    summed = [n for letter, n in zip(left.split(",")[1], layer.kernel.shape, strict=True) if letter not in result]
    return Cost(macs=_times(num_elements(call.outputs[0]), math.prod(summed))) + _bias_and_activation(call)


def pooling(call: Call) -> Cost:
    """Each element of the output reads a window."""
    cells = math.prod(call.operation.pool_size)
    return Cost(pooling=_times(num_elements(call.outputs[0]), cells))


def one_per_input(call: Call) -> Cost:
    """Global pooling and reductions: one for each element of the input."""
    return Cost(pooling=num_elements(call.inputs[0]))


def operation(call: Call) -> Cost:
    """An operation of `keras.ops`."""
    name = type(call.operation).__name__
    if name in op_rules.ACTIVATIONS:
        return activation(call)
    if name == "BatchNorm":
        return normalization(call)
    if name in op_rules.ELEMENTWISE:
        return elementwise(call)
    if name in op_rules.REDUCTIONS or name == "Moments":
        return one_per_input(call)
    if name in ("Softmax", "LogSoftmax"):
        return activation(call)
    if name in op_rules.STATISTICS:
        return normalization(call)
    if name in ("Conv", "DepthwiseConv"):
        return Cost(macs=_times(_num_positions(call.outputs[0], call), math.prod(call.args[1].shape)))
    if name in ("MaxPool", "AveragePool"):
        size = call.operation.pool_size
        cells = size ** (len(call.outputs[0].shape) - 2) if isinstance(size, int) else math.prod(size)
        return Cost(pooling=_times(num_elements(call.outputs[0]), cells))
    return _products(call, name) if name in ("DotProductAttention", "Einsum", "Matmul") else Cost()


def _products(call: Call, name: str) -> Cost:
    """An operation that sums products; None where it has more than two factors, which may be taken in any order."""
    shapes = [x.shape for x in op_rules.factors_of(call)]
    if name == "DotProductAttention":
        query, key, value = shapes
        # The heads are those of the queries, of which several may share a key. Values have a size of their own.
        scores = _index_space("bkhd,bqhd", [key, query])
        means = _index_space("bkhe,bqh", [value, query[:3]])
        return Cost(macs=sum_or_none([scores, means]))
    if len(shapes) == 1:  # a transposition, or a sum
        return Cost()
    subscripts = op_rules.einsum_subscripts(call.operation, list(map(len, shapes)))
    return Cost(macs=_index_space(subscripts, shapes) if subscripts and len(shapes) == 2 else None)


def _kernel(call: Call, positions: int | None, kernel: keras.Variable) -> Cost:
    return Cost(macs=_times(positions, math.prod(kernel.shape))) + _bias_and_activation(call)


def _bias_and_activation(call: Call) -> Cost:
    layer = call.operation
    count = num_elements(call.outputs[0])
    has_bias = getattr(layer, "use_bias", False) or getattr(layer, "bias", None) is not None
    linear = getattr(layer, "activation", None) in (None, keras.activations.linear)
    return Cost(bias=count if has_bias else 0, activation=0 if linear else count)


def _num_positions(tensor: keras.KerasTensor, call: Call) -> int | None:
    """Positions of a map: its elements without the channels."""
    axis = 1 if data_format(call.operation) == "channels_first" else -1
    shape = list(tensor.shape)
    del shape[axis]
    return product(shape)


def _index_space(subscripts: str, shapes: Iterable[Sequence[int | None]]) -> int | None:
    """How many products an einsum sums: the sizes of all its letters, multiplied."""
    sizes = {}
    for term, shape in zip(subscripts.split("->")[0].split(","), shapes, strict=True):
        sizes |= {letter: size for letter, size in zip(term, shape, strict=True) if size != 1}
    return product(sizes.values())


def _times(count: int | None, factor: int) -> int | None:
    return None if count is None else count * factor
