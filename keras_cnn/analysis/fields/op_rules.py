"""What operations of `keras.ops` do to receptive fields, by the name of their class, which is not public."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_cnn.analysis.fields import layer_rules, shape_op_rules
from keras_cnn.analysis.fields.call_axes import axis_list, channel_axis
from keras_cnn.analysis.fields.merging import with_global_branches
from keras_cnn.analysis.fields.tensor_field import Fields, RuleResult, constant_field
from keras_cnn.analysis.tracing import Call

# Each unit reads the unit at its own position of each input: activations, and others.
_ACTIVATIONS = """
    Celu Elu Gelu HardShrink HardSigmoid HardSilu HardTanh LeakyRelu LogSigmoid Relu Relu6 Selu Sigmoid Silu SoftShrink
    Softplus Softsign SparsePlus SparseSigmoid Squareplus Tanh TanhShrink Threshold
"""
_OTHERS = """
    Abs Absolute Add Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh BatchNorm BroadcastTo Cast Cbrt Ceil Clip
    ConvertToTensor Copy Cos Cosh Divide DivideNoNan Equal Erf Erfc Erfinv Exp Exp2 Expm1 Fabs Floor FloorDivide Fmax Fmin
    Fmod Greater GreaterEqual Heaviside Hypot Isfinite Isinf Isnan Less LessEqual Log Log10 Log1p Log2 LogicalAnd
    LogicalNot LogicalOr LogicalXor Logaddexp Logaddexp2 Maximum Minimum Mod Multiply NanToNum Negative NotEqual
    Power Reciprocal Round Rsqrt SaturateCast Sign Sin Sinc Sinh Sqrt Square StopGradient Subtract Tan TrueDivide Trunc
    Where
"""
ACTIVATIONS = frozenset(_ACTIVATIONS.split())
ELEMENTWISE = ACTIVATIONS | frozenset(_OTHERS.split())
# Each unit reads all along the axes in `axis`.
_REDUCTIONS = """
    All Amax Amin Any Argmax Argmin Average CountNonzero Logsumexp Max Mean Median Min Prod Ptp Std Sum Var
"""
REDUCTIONS = frozenset(_REDUCTIONS.split())
# The same, and it keeps its own position.
STATISTICS = frozenset(("LayerNorm", "LogSoftmax", "Normalize", "RMSNorm", "Softmax"))
RESHAPES = frozenset(("ExpandDims", "Ravel", "Reshape", "Squeeze"))


def find_op_rule(operation: keras.Operation) -> Callable[[Call, Fields], RuleResult] | None:
    """The function that maps a call of `operation` and the fields of its inputs to that of its output; None: unknown."""
    name = type(operation).__name__
    if name in ELEMENTWISE:
        return layer_rules.elementwise
    if name in REDUCTIONS:
        return _reduction
    if name in RESHAPES:
        return layer_rules.reshape
    if name in STATISTICS:
        return layer_rules.normalization_over(layer_rules.own_axis)
    return OTHER_RULES.get(name)


def einsum_subscripts(operation: keras.Operation, ranks: Sequence[int]) -> str | None:
    """The subscripts of an operation that sums products, such as "ij,jk->ik"; None if it does not.

    Args:
        operation: An operation of `keras.ops`.
        ranks: Number of axes of each factor.
    """
    name = type(operation).__name__
    if name == "DotProductAttention":
        return "bqhd,bkhd,bkhe->bqhe"
    if name == "Einsum":
        return _without_ellipsis(operation.subscripts.replace(" ", ""), ranks)
    if name == "Matmul":
        batch = "abcdefgh"[: max(ranks) - 2]
        left, right = (batch[len(batch) - rank + 2 :] for rank in ranks)
        left = "j" if ranks[0] == 1 else f"{left}ij"
        right = "j" if ranks[1] == 1 else f"{right}jk"
        return f"{left},{right}->{batch}{'i' * (ranks[0] > 1)}{'k' * (ranks[1] > 1)}"
    return None


def _without_ellipsis(subscripts: str, ranks: Sequence[int]) -> str | None:
    """Subscripts with letters for the axes that "..." stands for; None without a result."""
    terms, arrow, result = subscripts.partition("->")
    if not arrow:
        return None
    letters = "ABCDEFGH"
    widths = [rank - len(term.replace("...", "")) for term, rank in zip(terms.split(","), ranks, strict=True)]
    terms = [term.replace("...", letters[8 - width :]) for term, width in zip(terms.split(","), widths, strict=True)]
    return f"{','.join(terms)}->{result.replace('...', letters[8 - max(widths) :])}"


def factors_of(call: Call) -> list[Any]:
    """What a call multiplies: tensors and weights, in order."""
    count = 3 if type(call.operation).__name__ == "DotProductAttention" else len(call.args)
    return [x for x in call.args[:count] if hasattr(x, "shape")]


def _reduction(call: Call, fields: Fields) -> RuleResult:
    return layer_rules.reduce(fields[0], layer_rules.own_axis(call, fields[0]), call.outputs[0].shape)


def _sum_of_products(call: Call, fields: Fields) -> RuleResult:
    factors = factors_of(call)
    subscripts = einsum_subscripts(call.operation, [len(x.shape) for x in factors])
    field_of = {id(tensor): field for tensor, field in zip(call.inputs, fields, strict=True)}
    # A weight sees nothing of the input.
    factor_fields = [field_of.get(id(x)) for x in factors]
    return subscripts and layer_rules.sum_of_products(subscripts, factor_fields, call.outputs[0].shape)


def _convolution(call: Call, fields: Fields) -> RuleResult:
    """`keras.ops.conv` and `depthwise_conv`, whose kernel is an argument, and may be computed from the input."""
    field, *kernel_fields = fields
    groups = field.shape[channel_axis(call)]
    if type(call.operation).__name__ == "Conv":
        groups //= call.args[1].shape[-2]
    kernel = layer_rules.kernel_of(call.operation, call.args[1].shape[:-2])
    field = layer_rules.mix_channels(call, layer_rules.slide_kernel(call, field, kernel), groups)
    return with_global_branches(field, kernel_fields)


def _pooling(call: Call, fields: Fields) -> RuleResult:
    sizes = call.operation.pool_size
    sizes = sizes if isinstance(sizes, (tuple, list)) else (sizes,) * (len(fields[0].axes) - 2)
    return layer_rules.slide_kernel(call, fields[0], layer_rules.kernel_of(call.operation, sizes))


def _glu(call: Call, fields: Fields) -> RuleResult:
    """One half of an axis is a gate for the other half."""
    axis = call.operation.axis % len(fields[0].axes)
    return fields[0].read_all([axis]).with_plain_axis(axis, call.outputs[0].shape[axis])


def _moments(call: Call, fields: Fields) -> RuleResult:
    """Mean and variance."""
    axes = axis_list(call.operation.axes, len(fields[0].axes))
    return [layer_rules.reduce(fields[0], axes, tensor.shape) for tensor in call.outputs]


def _constant(call: Call, fields: Fields) -> RuleResult:
    return constant_field(call.outputs[0].shape, len(fields[0].local_fields))


OTHER_RULES = {
    "ArraySplit": shape_op_rules.split,
    "AveragePool": _pooling,
    "Concatenate": layer_rules.concatenation,
    "Conv": _convolution,
    "DepthToSpace": shape_op_rules.depth_to_space,
    "DepthwiseConv": _convolution,
    "DotProductAttention": _sum_of_products,
    "Einsum": _sum_of_products,
    "EmptyLike": _constant,
    "ExtractPatches": shape_op_rules.extract_patches,
    "Flip": shape_op_rules.flip,
    "Fliplr": shape_op_rules.flip,
    "Flipud": shape_op_rules.flip,
    "FullLike": _constant,
    "GetItem": shape_op_rules.get_item,
    "Glu": _glu,
    "Matmul": _sum_of_products,
    "MaxPool": _pooling,
    "Moments": _moments,
    "Moveaxis": shape_op_rules.transpose,
    "OnesLike": _constant,
    "Pad": shape_op_rules.pad,
    "Repeat": shape_op_rules.repeat,
    "Resize": layer_rules.resizing,
    "Roll": shape_op_rules.roll,
    "Slice": shape_op_rules.slice_op,
    "SpaceToDepth": shape_op_rules.space_to_depth,
    "Split": shape_op_rules.split,
    "Stack": shape_op_rules.stack,
    "Swapaxes": shape_op_rules.transpose,
    "Take": shape_op_rules.take,
    "Tile": shape_op_rules.tile,
    "Transpose": shape_op_rules.transpose,
    "Unstack": shape_op_rules.split,
    "ZerosLike": _constant,
}
