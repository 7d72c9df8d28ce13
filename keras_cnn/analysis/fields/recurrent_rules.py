"""Recurrent layers: what they do to receptive fields, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import astuple, replace

import keras

from keras_cnn import geometry
from keras_cnn.analysis.fields.axis_parts import input_axes_of, plain_axis, product
from keras_cnn.analysis.fields.costs import Cost
from keras_cnn.analysis.fields.merging import with_global_branches
from keras_cnn.analysis.fields.taps import kernel_taps
from keras_cnn.analysis.fields.tensor_field import Fields, RuleResult, one_by_one
from keras_cnn.analysis.tracing import Call

# Activations, and sums and products, for each unit of a recurrent cell and step.
CELL_OPERATIONS = {keras.layers.LSTMCell: (5, 8), keras.layers.GRUCell: (3, 8), keras.layers.SimpleRNNCell: (1, 1)}


def recurrent_field(call: Call, fields: Fields) -> RuleResult:
    """The state passes over the whole sequence; a unit of a sequence of outputs sees no more than that."""
    field, *states = fields
    if len(field.axes) != 3:
        return None
    both_directions = getattr(call.operation, "merge_mode", None) is not None
    steps = one_by_one(input_axes_of(field.axes[1:2]))
    field = field.read_all([1, 2])
    results = []
    for tensor in call.outputs:
        output = replace(field, axes=(field.axes[0], *map(plain_axis, tensor.shape[1:])))
        earlier_see_less = len(tensor.shape) == 3 and not both_directions
        bounded_axes = steps if earlier_see_less else frozenset()
        results.append(replace(with_global_branches(output, states), bounded_axes=bounded_axes))
    return results


def convolutional_field(call: Call, fields: Fields) -> RuleResult:
    """`keras.layers.ConvLSTM*`: each step convolves the state once more, by a kernel of the same size with "same"."""
    layer = call.operation
    field, *states = fields
    steps = field.shape[1]
    if steps is None or states:
        return None
    first = 3 if layer.data_format == "channels_first" else 2
    sizes = layer.cell.compute_output_shape((1, *field.shape[2:]))[0][first - 1 :]
    kernel = zip(layer.kernel_size, layer.strides, layer.dilation_rate, sizes, strict=False)
    for axis, (size, stride, dilation, new) in enumerate(kernel, first):
        before, _ = geometry.padding_amounts(field.shape[axis], size, stride, layer.padding, dilation)
        if before is None:
            return None
        field = field.read_along(axis, kernel_taps(size, stride, before, dilation), new)
        later_steps = kernel_taps((steps - 1) * (size - 1) + 1, 1, (steps - 1) * ((size - 1) // 2))
        field = field.read_along(axis, later_steps, new)
    channels = 2 if first == 3 else len(field.axes) - 1
    field = field.read_all([1, channels]).with_plain_axis(channels, layer.filters)
    bounded_axes = one_by_one(input_axes_of(fields[0].axes))  # earlier steps see less
    every_step = replace(field.with_plain_axis(1, steps), bounded_axes=bounded_axes)
    last_step = replace(field, axes=(field.axes[0], *field.axes[2:]))
    return [every_step if len(tensor.shape) == len(field.axes) else last_step for tensor in call.outputs]


def recurrent_cost(call: Call) -> Cost:
    """Every step multiplies by all kernels of the cell."""
    layer = call.operation
    both = [layer.forward_layer, layer.backward_layer] if isinstance(layer, keras.layers.Bidirectional) else [layer]
    return _times(sum((_step_cost(one.cell) for one in both), Cost()), call.inputs[0].shape[:2])


def convolutional_cost(call: Call) -> Cost:
    """`keras.layers.ConvLSTM*`: every step multiplies by all kernels at each position of the state."""
    layer = call.operation
    state = list(call.outputs[0].shape[1 + layer.return_sequences :])
    del state[0 if layer.data_format == "channels_first" else -1]
    return _times(_step_cost(layer.cell), (*call.inputs[0].shape[:2], *state))


def _step_cost(cell: keras.layers.Layer) -> Cost:
    """One step of a recurrent cell, at one position of its state."""
    if isinstance(cell, keras.layers.StackedRNNCells):
        return sum(map(_step_cost, cell.cells), Cost())
    units = cell.filters if hasattr(cell, "filters") else cell.units
    # The cell of ConvLSTM, an LSTM, has no public name.
    known = (counts for kind, counts in CELL_OPERATIONS.items() if isinstance(cell, kind))
    activations, others = next(known, CELL_OPERATIONS[keras.layers.LSTMCell])
    return Cost(
        macs=math.prod(cell.kernel.shape) + math.prod(cell.recurrent_kernel.shape),
        bias=0 if cell.bias is None else math.prod(cell.bias.shape),
        activation=activations * units,
        elementwise=others * units,
    )


def _times(cost: Cost, sizes: Iterable[int | None]) -> Cost:
    """The cost repeated as many times as the product of `sizes`."""
    times = product(sizes)
    return Cost(*(0 if count == 0 else times and times * count for count in astuple(cost)))
