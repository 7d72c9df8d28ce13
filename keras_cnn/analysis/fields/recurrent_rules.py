"""Recurrent layers: what they do to receptive fields, and what they cost."""

from __future__ import annotations

import math
from dataclasses import astuple, replace

import keras

from keras_cnn import geometry
from keras_cnn.analysis.fields.axis_parts import Atom, product, sources_of
from keras_cnn.analysis.fields.costs import Cost
from keras_cnn.analysis.fields.merging import besides
from keras_cnn.analysis.fields.taps import window
from keras_cnn.analysis.fields.tensor_field import each

# Activations, and sums and products, for each unit of a recurrent cell and step.
CELLS = {keras.layers.LSTMCell: (5, 8), keras.layers.GRUCell: (3, 8), keras.layers.SimpleRNNCell: (1, 1)}


def effect(call, views):
    """The state passes over the whole sequence; a unit of a sequence of outputs sees no more than that."""
    view, *states = views
    if len(view.axes) != 3:
        return None
    both_ways = getattr(call.operation, "merge_mode", None) is not None
    times, view = each(sources_of(view.axes[1:2])), view.mixed([1, 2])
    results = []
    for tensor in call.outputs:
        seen = replace(view, axes=(view.axes[0], *((Atom(None, size),) for size in tensor.shape[1:])))
        early = len(tensor.shape) == 3 and not both_ways
        results.append(replace(besides(seen, states), bounded=times if early else frozenset()))
    return results


def convolutional_effect(call, views):
    """`keras.layers.ConvLSTM*`: at each step the state is convolved once more, by a kernel of the same size with "same"."""
    layer, view, states = call.operation, views[0], views[1:]
    steps = view.shape[1]
    if steps is None or states:
        return None
    first = 3 if layer.data_format == "channels_first" else 2
    sizes = layer.cell.compute_output_shape((1, *view.shape[2:]))[0][first - 1 :]
    kernel = zip(layer.kernel_size, layer.strides, layer.dilation_rate, sizes, strict=False)
    for axis, (size, stride, dilation, new) in enumerate(kernel, first):
        before, _ = geometry.padding_amounts(view.shape[axis], size, stride, layer.padding, dilation)
        if before is None:
            return None
        view = view.along(axis, window(size, stride, before, dilation), new)
        view = view.along(axis, window((steps - 1) * (size - 1) + 1, 1, (steps - 1) * ((size - 1) // 2)), new)
    channels = 2 if first == 3 else len(view.axes) - 1
    view = view.mixed([1, channels]).resized(channels, layer.filters)
    early = replace(view.resized(1, steps), bounded=each(sources_of(views[0].axes)))  # earlier steps see less
    last = replace(view, axes=(view.axes[0], *view.axes[2:]))
    return [early if len(tensor.shape) == len(view.axes) else last for tensor in call.outputs]


def cost(call):
    """Every step multiplies by all kernels of the cell."""
    layer = call.operation
    both = [layer.forward_layer, layer.backward_layer] if isinstance(layer, keras.layers.Bidirectional) else [layer]
    return _repeated(sum((_step(one.cell) for one in both), Cost()), call.inputs[0].shape[:2])


def convolutional_cost(call):
    """`keras.layers.ConvLSTM*`: every step multiplies by all kernels at each place of the state."""
    layer = call.operation
    state = list(call.outputs[0].shape[1 + layer.return_sequences :])
    del state[0 if layer.data_format == "channels_first" else -1]
    return _repeated(_step(layer.cell), (*call.inputs[0].shape[:2], *state))


def _step(cell):
    """One step of a recurrent cell, at one place of its state."""
    if isinstance(cell, keras.layers.StackedRNNCells):
        return sum(map(_step, cell.cells), Cost())
    units = cell.filters if hasattr(cell, "filters") else cell.units
    # The cell of ConvLSTM, an LSTM, has no public name.
    counts = (counts for kind, counts in CELLS.items() if isinstance(cell, kind))
    activations, others = next(counts, CELLS[keras.layers.LSTMCell])
    return Cost(
        macs=math.prod(cell.kernel.shape) + math.prod(cell.recurrent_kernel.shape),
        bias=0 if cell.bias is None else math.prod(cell.bias.shape),
        activation=activations * units,
        elementwise=others * units,
    )


def _repeated(cost, sizes):
    """The cost of so many of it."""
    times = product(sizes)
    return Cost(*(0 if count == 0 else times and times * count for count in astuple(cost)))
