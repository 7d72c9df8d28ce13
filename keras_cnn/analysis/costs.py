"""What a call costs at inference, for one example, in plain integers.

Conventions: a multiply-accumulate (MAC) is one multiplication by a kernel, or within a matrix product, with the addition
after it; cells of padding count as data. The other columns count one for each element that is touched: of a bias, of a
normalisation (its scale and offset together), of an activation; pooling counts one for each cell of each window;
`elementwise` the sums and products of branches, rescaling and the like. Dropout, padding and reshaping cost nothing.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

import keras

from keras_cnn.analysis import operations
from keras_cnn.analysis.atoms import product
from keras_cnn.analysis.effects import data_format


@dataclass(frozen=True)
class Cost:
    """Operations of a call; None if a size is unknown."""

    macs: int | None = 0
    bias: int | None = 0
    normalization: int | None = 0
    activation: int | None = 0
    pooling: int | None = 0
    elementwise: int | None = 0

    def __add__(self, other):
        return Cost(*map(sum_of, zip(astuple(self), astuple(other), strict=True)))


def elements(tensor) -> int | None:
    """Numbers in a tensor, of all of its batch."""
    return product(tensor.shape)


def sum_of(counts) -> int | None:
    """Their sum; None if one of them is not known."""
    counts = list(counts)
    return None if None in counts else sum(counts)


def free(call):
    """Nothing: what moves numbers, or does nothing at inference."""
    return Cost()


def normalization(call):
    """Scale and offset together, one for each element."""
    return Cost(normalization=elements(call.outputs[0]))


def activation(call):
    """One for each element, but for a linear one."""
    linear = getattr(call.operation, "activation", None) is keras.activations.linear
    return Cost() if linear else Cost(activation=elements(call.outputs[0]))


def elementwise(call):
    """One for each input after the first, at least one."""
    return Cost(elementwise=_times(elements(call.outputs[0]), max(1, len(call.inputs) - 1)))


def merge(call):
    """`keras.layers.Add` and its like: one for each input after the first."""
    return Cost(elementwise=_times(elements(call.outputs[0]), len(call.inputs) - 1))


def kernel_on_output(call):
    """Convolutions: each output position multiplies by the whole kernel, that of all groups together."""
    return _kernel(call, _positions(call.outputs[0], call), call.operation.kernel)


def separable(call):
    """A depthwise convolution and the 1 x 1 convolution after it."""
    layer = call.operation
    taps = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
    return Cost(macs=_times(_positions(call.outputs[0], call), taps)) + _bias_and_activation(call)


def kernel_on_input(call):
    """Transposed convolutions: each input position multiplies by the whole kernel."""
    layer = call.operation
    return _kernel(
        call, _positions(call.inputs[0], call), layer.conv.kernel if hasattr(layer, "conv") else layer.kernel
    )


def dense(call):
    """Each place multiplies by the whole kernel."""
    return _kernel(call, _positions(call.outputs[0], call), call.operation.kernel)


def einsum_dense(call):
    """Each output element is a sum over the letters of the kernel that the output lacks."""
    layer = call.operation
    left, result = layer.equation.replace(" ", "").split("->")
    summed = [n for letter, n in zip(left.split(",")[1], layer.kernel.shape, strict=True) if letter not in result]
    return Cost(macs=_times(elements(call.outputs[0]), math.prod(summed))) + _bias_and_activation(call)


def pooling(call):
    """Each element of the output reads a window."""
    cells = math.prod(call.operation.pool_size)
    return Cost(pooling=_times(elements(call.outputs[0]), cells))


def reading(call):
    """Global pooling and reductions: each element of the input once."""
    return Cost(pooling=elements(call.inputs[0]))


def operation(call):
    """An operation of `keras.ops`."""
    name = type(call.operation).__name__
    if name in operations.ACTIVATIONS:
        return activation(call)
    if name == "BatchNorm":
        return normalization(call)
    if name in operations.ELEMENTWISE:
        return elementwise(call)
    if name in operations.REDUCTIONS or name == "Moments":
        return reading(call)
    if name in ("Softmax", "LogSoftmax"):
        return activation(call)
    if name in operations.STATISTICS:
        return normalization(call)
    if name in ("Conv", "DepthwiseConv"):
        return Cost(macs=_times(_positions(call.outputs[0], call), math.prod(call.args[1].shape)))
    if name in ("MaxPool", "AveragePool"):
        rank, size = len(call.outputs[0].shape) - 2, call.operation.pool_size
        return Cost(pooling=_times(elements(call.outputs[0]), size**rank if isinstance(size, int) else math.prod(size)))
    return _products(call, name) if name in ("DotProductAttention", "Einsum", "Matmul") else Cost()


def _products(call, name):
    """An operation that sums products; None where it has more than two factors, which may be taken in any order."""
    factors = operations.operands(call)
    shapes = [x.shape for x in factors]
    text = operations.subscripts(call.operation, list(map(len, shapes)))
    if name == "DotProductAttention":  # scores, then the mean of values, whose size is their own
        query, key, value = shapes
        # The heads are those of the queries, of which several may share a key.
        products = [_index_space("bkhd,bqhd", [key, query]), _index_space("bkhe,bqh", [value, query[:3]])]
        return Cost(macs=sum_of(products))
    if len(factors) == 1:  # a transposition, or a sum
        return Cost()
    return Cost(macs=_index_space(text, shapes) if text and len(factors) == 2 else None)


def _kernel(call, positions, kernel):
    return Cost(macs=_times(positions, math.prod(kernel.shape))) + _bias_and_activation(call)


def _bias_and_activation(call):
    layer, count = call.operation, elements(call.outputs[0])
    has_bias = getattr(layer, "use_bias", False) or getattr(layer, "bias", None) is not None
    linear = getattr(layer, "activation", None) in (None, keras.activations.linear)
    return Cost(bias=count if has_bias else 0, activation=0 if linear else count)


def _positions(tensor, call):
    """Places of a map: its elements but for the channels."""
    axis = 1 if data_format(call.operation) == "channels_first" else -1
    shape = list(tensor.shape)
    del shape[axis]
    return product(shape)


def _index_space(text, shapes):
    letters = {}
    for part, shape in zip(text.split("->")[0].split(","), shapes, strict=True):
        letters |= {letter: size for letter, size in zip(part, shape, strict=True) if size != 1}
    return product(letters.values())


def _times(count, factor):
    return None if count is None else count * factor
