"""What operations of `keras.ops` do to receptive fields, by the name of their class, which is not public."""

from __future__ import annotations

from dataclasses import replace

from keras_cnn.analysis import effects

# Each unit reads the unit at its own place of each input: activations, and others.
_ACTIVATIONS = """
    Celu Elu Gelu HardSigmoid HardSilu HardTanh LeakyRelu LogSigmoid Relu Relu6 Selu Sigmoid Silu SoftShrink Softplus
    Softsign SparseSigmoid Squareplus Tanh TanhShrink Threshold
"""
_OTHERS = """
    Absolute Add Arctan BatchNorm BroadcastTo Cast Ceil Clip ConvertToTensor Copy Cos Divide DivideNoNan Equal Erf Exp Expm1
    Floor FloorDivide Greater GreaterEqual Heaviside Less LessEqual Log Log10 Log1p Log2 LogicalAnd LogicalNot LogicalOr
    Logaddexp Maximum Minimum Mod Multiply NanToNum Negative NotEqual OnesLike Power Reciprocal Round Rsqrt SaturateCast Sign
    Sin Sqrt Square StopGradient Subtract Tan TrueDivide Trunc Where ZerosLike
"""
ACTIVATIONS = frozenset(_ACTIVATIONS.split())
ELEMENTWISE = ACTIVATIONS | frozenset(_OTHERS.split())
# Each unit reads all along the axes in `axis`.
REDUCTIONS = frozenset(("Amax", "Amin", "Logsumexp", "Max", "Mean", "Min", "Prod", "Std", "Sum", "Var"))
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
        text = operation.subscripts.replace(" ", "")
        return None if "..." in text or "->" not in text else text
    if name == "Matmul" and min(ranks) >= 2:
        batch = "abcdefgh"[: max(ranks) - 2]
        left, right = (batch[len(batch) - rank + 2 :] for rank in ranks)
        return f"{left}ij,{right}jk->{batch}ik"
    return None


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


def _item(call, views):
    """Slices and indices; what is left out is not seen."""
    view, key = views[0], call.args[1]
    key = list(key) if isinstance(key, tuple) else [key]
    if not all(one is None or one is Ellipsis or isinstance(one, (int, slice)) for one in key):
        return None
    if Ellipsis in key:
        place = key.index(Ellipsis)
        key[place : place + 1] = [slice(None)] * (len(view.axes) - sum(one is not None for one in key) + 1)
    gone = []
    for axis, one in enumerate(one for one in key if one is not None):
        size = view.shape[axis]
        if one == slice(None):
            continue
        if size is None:
            return None
        start, stop, step = one.indices(size) if isinstance(one, slice) else (one % size, one % size + 1, 1)
        count = len(range(start, stop, step))
        backwards = view.mixed([axis]).resized(axis, count)
        view = view.along(axis, (step, ((start,),)), count) if step > 0 else backwards
        if isinstance(one, int):
            view, gone = view.mixed([axis]), [*gone, axis]
    view = replace(view, axes=tuple(atoms for axis, atoms in enumerate(view.axes) if axis not in gone))
    return view.reshaped(call.outputs[0].shape)


def _transpose(call, views):
    return views[0].transposed(call.operation.axes or range(len(views[0].axes))[::-1])


def _swap_axes(call, views):
    order = list(range(len(views[0].axes)))
    one, other = call.operation.axis1, call.operation.axis2
    order[one], order[other] = order[other], order[one]
    return views[0].transposed(order)


def _pad(call, views):
    amounts = [before for before, _ in call.operation.pad_width]
    return effects.shifted(call, views[0], range(len(amounts)), amounts)


def _convolution(call, views):
    """`keras.ops.conv` and `depthwise_conv`, whose kernel is an argument."""
    sizes = call.args[1].shape[:-2]
    strides, dilations = (
        value if isinstance(value, (tuple, list)) else (value,) * len(sizes)
        for value in (call.operation.strides, call.operation.dilation_rate)
    )
    kernel = zip(sizes, strides, (call.operation.padding,) * len(sizes), dilations, strict=True)
    return effects.windows(call, effects.channels_mixed(call, views[0]), kernel)


def _pooling(call, views):
    rank = len(views[0].axes) - 2
    sizes, strides = (
        value if isinstance(value, (tuple, list)) else (value,) * rank
        for value in (call.operation.pool_size, call.operation.strides or call.operation.pool_size)
    )
    return effects.windows(
        call, views[0], zip(sizes, strides, (call.operation.padding,) * rank, (1,) * rank, strict=True)
    )


OTHERS = {
    "AveragePool": _pooling,
    "Concatenate": effects.concatenate,
    "Conv": _convolution,
    "DepthwiseConv": _convolution,
    "DotProductAttention": _sum_of_products,
    "Einsum": _sum_of_products,
    "GetItem": _item,
    "Matmul": _sum_of_products,
    "MaxPool": _pooling,
    "Pad": _pad,
    "Resize": effects.resizing,
    "Swapaxes": _swap_axes,
    "Transpose": _transpose,
}
