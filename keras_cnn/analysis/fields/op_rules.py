"""What operations of `keras.ops` do to receptive fields, by the name of their class, which is not public."""

from __future__ import annotations

from keras_cnn.analysis.fields import layer_rules as effects
from keras_cnn.analysis.fields import shape_op_rules as movements
from keras_cnn.analysis.fields.merging import besides
from keras_cnn.analysis.fields.tensor_field import constant

# Each unit reads the unit at its own place of each input: activations, and others.
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
# As that, and stays at its own place.
STATISTICS = frozenset(("LayerNorm", "LogSoftmax", "Normalize", "RMSNorm", "Softmax"))
RESHAPES = frozenset(("ExpandDims", "Ravel", "Reshape", "Squeeze"))


def effect(operation):
    """The function that maps a call of `operation` and the views of its inputs to that of its output; None: unknown."""
    name = type(operation).__name__
    groups = {ELEMENTWISE: effects.elementwise, REDUCTIONS: _reduction, RESHAPES: effects.reshape}
    groups[STATISTICS] = effects.normalization_over(effects.over_axis)
    return next((function for names, function in groups.items() if name in names), OTHERS.get(name))


def subscripts(operation, ranks):
    """The subscripts of an operation that sums products, such as "ij,jk->ik"; None if it is none.

    Args:
        ranks: Number of axes of each operand.
    """
    name = type(operation).__name__
    if name == "DotProductAttention":
        return "bqhd,bkhd,bkhe->bqhe"
    if name == "Einsum":
        return _spelled_out(operation.subscripts.replace(" ", ""), ranks)
    if name == "Matmul":
        batch = "abcdefgh"[: max(ranks) - 2]
        left, right = (batch[len(batch) - rank + 2 :] for rank in ranks)
        left, right = "j" if ranks[0] == 1 else f"{left}ij", "j" if ranks[1] == 1 else f"{right}jk"
        return f"{left},{right}->{batch}{'i' * (ranks[0] > 1)}{'k' * (ranks[1] > 1)}"
    return None


def _spelled_out(text, ranks):
    """Subscripts with letters for the axes that "..." stands for; None without a result."""
    terms, arrow, result = text.partition("->")
    if not arrow:
        return None
    letters = "ABCDEFGH"
    widths = [rank - len(term.replace("...", "")) for term, rank in zip(terms.split(","), ranks, strict=True)]
    terms = [term.replace("...", letters[8 - width :]) for term, width in zip(terms.split(","), widths, strict=True)]
    return f"{','.join(terms)}->{result.replace('...', letters[8 - max(widths) :])}"


def operands(call):
    """What a call multiplies: tensors and weights, in order."""
    count = 3 if type(call.operation).__name__ == "DotProductAttention" else len(call.args)
    return [x for x in call.args[:count] if hasattr(x, "shape")]


def _reduction(call, views):
    return effects.reduced(views[0], effects.axes_of(call.operation.axis, views[0]), call.outputs[0].shape)


def _sum_of_products(call, views):
    factors = operands(call)
    text = subscripts(call.operation, [len(x.shape) for x in factors])
    following = {id(tensor): view for tensor, view in zip(call.inputs, views, strict=True)}
    # A weight sees nothing of the input.
    return text and effects.sum_of_products(text, [following.get(id(x)) for x in factors], call.outputs[0].shape)


def _convolution(call, views):
    """`keras.ops.conv` and `depthwise_conv`, whose kernel is an argument, and may be computed from the input."""
    view, *kernels = views
    groups = view.shape[effects.channel_axis(call)]
    if type(call.operation).__name__ == "Conv":
        groups //= call.args[1].shape[-2]
    kernel = effects.kernel_of(call.operation, call.args[1].shape[:-2])
    return besides(effects.channels_mixed(call, effects.windows(call, view, kernel), groups), kernels)


def _pooling(call, views):
    sizes, rank = call.operation.pool_size, len(views[0].axes) - 2
    sizes = sizes if isinstance(sizes, (tuple, list)) else (sizes,) * rank
    return effects.windows(call, views[0], effects.kernel_of(call.operation, sizes))


def _glu(call, views):
    """One half of an axis is a gate for the other."""
    axis = call.operation.axis % len(views[0].axes)
    return views[0].mixed([axis]).resized(axis, call.outputs[0].shape[axis])


def _moments(call, views):
    """Mean and variance."""
    axes = effects.axes_of(call.operation.axes, views[0])
    return [effects.reduced(views[0], axes, tensor.shape) for tensor in call.outputs]


def _constant(call, views):
    return constant(call.outputs[0].shape, len(views[0].local))


OTHERS = {
    "ArraySplit": movements.split,
    "AveragePool": _pooling,
    "Concatenate": effects.concatenate,
    "Conv": _convolution,
    "DepthToSpace": movements.depth_to_space,
    "DepthwiseConv": _convolution,
    "DotProductAttention": _sum_of_products,
    "Einsum": _sum_of_products,
    "EmptyLike": _constant,
    "ExtractPatches": movements.patches,
    "Flip": movements.flip,
    "Fliplr": movements.flip,
    "Flipud": movements.flip,
    "FullLike": _constant,
    "GetItem": movements.get_item,
    "Glu": _glu,
    "Matmul": _sum_of_products,
    "MaxPool": _pooling,
    "Moments": _moments,
    "Moveaxis": movements.transpose,
    "OnesLike": _constant,
    "Pad": movements.pad,
    "Repeat": movements.repeat,
    "Resize": effects.resizing,
    "Roll": movements.roll,
    "Slice": movements.sliced,
    "SpaceToDepth": movements.space_to_depth,
    "Split": movements.split,
    "Stack": movements.stack,
    "Swapaxes": movements.transpose,
    "Take": movements.take,
    "Tile": movements.tile,
    "Transpose": movements.transpose,
    "Unstack": movements.split,
    "ZerosLike": _constant,
}
