"""Stages of any functional network, found in its graph by stride, and marked in it by layers of their names.

Stage n is the part whose feature maps have stride 2^n: "stage4" has stride 16 in every network, and a network whose first
layer already divides by 4 has no "stage1". A stage ends in the last tensor of its stride through which all paths of the
network pass: after the last residual sum, before a shortcut or a branch opens into the next stage, and before the
expansion of an inverted residual block (Sandler et al., 2018, MobileNetV2, arXiv:1801.04381), whose narrow ends are the
network's features. Where parallel paths never join (NASNet), it is the tensor with the fewest parallel calls: calls that are
neither needed for it nor computed from it.

A residual network with its shortcuts, calls from left to right, the stride after each in brackets::

    conv [2] - conv [2] - add [2] - conv [4] - conv [4] - add [4] - pool
             \\____________/       \\__conv [4]___________/

Both adds are on all paths: stage1 ends after the first, stage2 after the second. No stage ends in a convolution of the second
block, since the calls of the other branch are parallel to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from keras_cnn import arguments
from keras_cnn.backbones.backbone import Stage
from keras_cnn.keras_internals import call_records
from keras_cnn.surgery.graph import graph_of, nodes_of, require_graph, rewrite

UPSAMPLING = (keras.layers.Conv2DTranspose, keras.layers.UpSampling2D)
PADDING = (keras.layers.ZeroPadding2D, keras.layers.Cropping2D)
EXAMPLE_SIZE = 256  # side of the images with which a network of any input size is examined
POINTWISE = (keras.layers.Activation, keras.layers.ReLU, keras.layers.BatchNormalization)
LINEAR = (keras.layers.Add, keras.layers.BatchNormalization)


class Call(NamedTuple):
    """One call in a network.

    Attributes:
        node: The call, as Keras keeps it.
        stride: Input pixels between neighbouring positions of its output. None: the output is not a feature map.
        parallel_calls: Number of calls that are neither needed for its output nor computed from it.
    """

    node: Any
    stride: int | None
    parallel_calls: int

    @property
    def layer(self) -> Any:
        """The layer or operation."""
        return self.node.operation

    @property
    def input(self) -> keras.KerasTensor:
        """Its first input."""
        return self.node.input_tensors[0]

    @property
    def output(self) -> keras.KerasTensor:
        """Its first output."""
        return self.node.outputs[0]


def list_calls(graph: Any) -> list[Call]:
    """The calls in a graph with one input, each after those that it takes its inputs from.

    Raises:
        ValueError: If the strides of height and width differ.
    """
    nodes = list(nodes_of(graph))
    index = {id(tensor): i for i, node in enumerate(nodes) for tensor in node.outputs}
    inputs = [[index[id(tensor)] for tensor in node.input_tensors if id(tensor) in index] for node in nodes]
    # Sets of calls as the bits of an integer: those that each call depends on, itself included, and those that depend on it.
    upstream, downstream = [1 << i for i in range(len(nodes))], [1 << i for i in range(len(nodes))]
    for i, previous in enumerate(inputs):
        for j in previous:
            upstream[i] |= upstream[j]
    for i, previous in reversed(list(enumerate(inputs))):
        for j in previous:
            downstream[j] |= downstream[i]
    strides, calls = {id(graph.inputs[0]): 1}, []
    for node, needed, dependent in zip(nodes, upstream, downstream, strict=True):
        stride = _stride(node, strides)
        strides.update((id(tensor), stride) for tensor in node.outputs)
        calls.append(Call(node, stride, len(nodes) - (needed | dependent).bit_count()))
    return calls


def stage_ends(calls: list[Call]) -> list[int]:
    """The indices in `calls` at which the stages end, shallow to deep; the last one is the last call."""
    ends = []
    last_stride = calls[-1].stride or 0
    for stride in sorted({call.stride for call in calls if call.stride and 1 < call.stride < last_stride}):
        candidates = [
            i for i, call in enumerate(calls) if call.stride == stride and not isinstance(call.layer, PADDING)
        ]
        fewest = min(calls[i].parallel_calls for i in candidates)
        ends.append(_before_expansion(calls, [i for i in candidates if calls[i].parallel_calls == fewest][-1]))
    return [*ends, len(calls) - 1]


def with_stage_markers(
    model: keras.Model, size: tuple[int | None, int | None] | None, normalize: Callable[[Any], Any]
) -> tuple[keras.Model, tuple[Stage, ...]]:
    """The same network on images 0..255, up to its last feature map, with a marker layer after each stage; and the stages.

    Args:
        model: A functional or Sequential model. The new model takes over its layers: `model` must not be used afterwards.
        size: Height and width, each a number or None. None: those of the model.
        normalize: Function of a tensor: from 0..255 to what `model` expects.

    Raises:
        ValueError: If it has several inputs or outputs, if its maps shrink in one direction only, if it ends neither in a
            feature map nor in the pooling of one, or if it does not take images of that size.
    """
    graph = require_graph("load_backbone", model)
    if len(graph.inputs) != 1 or len(graph.outputs) != 1 or len(graph.inputs[0].shape) != 4:
        _refuse(
            model, f"has one input, of images, and one output; this has {len(graph.inputs)} and {len(graph.outputs)}"
        )
    rows, columns, channels = graph.inputs[0].shape[1:]
    height, width = size or (rows, columns)
    # Some layers show their stride only by their shapes; and a model that was made from a backbone has markers.
    if None in (rows, columns) or any(map(_is_marker, graph.operations)):
        shape = (rows or height or EXAMPLE_SIZE, columns or width or EXAMPLE_SIZE, channels)
        model = _rebuild_or_refuse(model, shape, _without_markers)
        graph = graph_of(model)
    calls = _up_to_last_map(model, list_calls(graph))
    ends, stages = {id(calls[end].node): calls[end].stride for end in stage_ends(calls)}, []

    def add_marker(node, args, kwargs):
        stride = ends.get(id(node))
        if stride is None:
            return None
        y = node.operation(*args, **kwargs)
        stages.append(Stage(f"stage{stride.bit_length() - 1}", stride, y.shape[-1]))
        return keras.layers.Identity(name=stages[-1].name)(y)

    if calls[-1].output is not graph.outputs[0]:
        model = keras.Model(graph.inputs[0], calls[-1].output, name=model.name)
    return _rebuild_or_refuse(model, (height, width, channels), add_marker, normalize), tuple(stages)


def _up_to_last_map(model, calls):
    """The calls up to the last feature map on all paths; after it there may be its pooling, and a head.

    A map without a layer with weights before it is the image itself, scaled or resized.
    """
    last = max((i for i, call in enumerate(calls) if call.stride and not call.parallel_calls), default=None)
    if last is None or not any(getattr(call.layer, "weights", ()) for call in calls[: last + 1]):
        _refuse(model, "computes feature maps; this has none")
    output = calls[last].output
    for call in calls[last + 1 :]:
        pooled = len(call.output.shape) == 2 or call.output.shape[1:3] == (1, 1)
        if any(x is output for x in call.node.input_tensors) and not pooled:
            _refuse(model, f"ends in a feature map, or pools it; here the last one goes into {call.layer.name!r}")
    return calls[: last + 1]


def _refuse(model, expected):
    raise ValueError(f"load_backbone: {model.name!r} must be a network that {expected.rstrip('.')}.") from None


def _rebuild_or_refuse(model, shape, *functions):
    """As `rebuild`, with the error of Keras as one sentence."""
    try:
        return rebuild(model, shape, *functions)
    except ValueError as error:
        _refuse(model, f"takes images of {shape[0]} x {shape[1]}; Keras says: {arguments.short_message(error)}")


def rebuild(
    model: keras.Model,
    shape: tuple[int | None, ...],
    step: Callable[..., Any] = lambda *_: None,
    first: Callable[[Any], Any] = lambda x: x,
) -> keras.Model:
    """The same network from another input; `layer.output` of each layer belongs to the new model.

    Args:
        model: As in `with_stage_markers`.
        shape: Of one image.
        step: As in `rewrite`.
        first: Function of a tensor, applied to the images.
    """
    graph = graph_of(model)
    for operation in graph.operations:
        for record in call_records(operation):
            record.clear()
    image = keras.Input(shape, name="image")
    (output,) = keras.tree.flatten(rewrite(graph, step, [first(image)]))
    return keras.Model(image, output, name=model.name)


def _is_marker(layer):
    """Whether a layer marks the end of a stage."""
    return isinstance(layer, keras.layers.Identity) and re.fullmatch(r"stage\d+", layer.name) is not None


def _without_markers(node, args, _):
    return args[0] if _is_marker(node.operation) else None


def _stride(node, strides):
    """The stride of the output of a call; None if it is not a feature map."""
    operation, output = node.operation, node.outputs[0]
    before = max((strides[id(tensor)] or 0 for tensor in node.input_tensors), default=0)
    if not before or len(output.shape) != 4:
        return None
    if isinstance(operation, PADDING):
        return before
    if isinstance(operation, UPSAMPLING):
        return before // _factor(operation, getattr(operation, "size", None) or operation.strides) or None
    if graph_of(operation) is not None:
        inside = list_calls(graph_of(operation))[-1].stride
        return inside and before * inside
    if hasattr(operation, "strides"):
        return before * _factor(operation, operation.strides)
    return _stride_by_shape(before, node.input_tensors[0].shape, output.shape)


def _factor(layer, strides):
    """The stride of a layer, the same in both directions."""
    numbers = {strides} if isinstance(strides, int) else set(strides)
    if len(numbers) != 1:
        raise ValueError(
            f"load_backbone: a network must shrink height and width alike. Received: {layer.name!r} with strides {strides}."
        )
    return numbers.pop()


def _stride_by_shape(before, old, new):
    """For operations without strides: how much smaller the map becomes, where its size is known."""
    if new[1:3] == (1, 1) and old[1:3] != (1, 1):
        return None
    if len(old) == 4 and old[1] and new[1]:
        return before * max(1, round(old[1] / new[1]))
    return before


def _before_expansion(calls, end):
    """`end`, or the index at which the block begins whose expansion it is."""
    following = [call.layer for call in calls[end + 1 :] if not isinstance(call.layer, PADDING)]
    indices = {id(call.output): i for i, call in enumerate(calls)}
    index = end
    while isinstance(calls[index].layer, POINTWISE) and id(calls[index].input) in indices:
        index = indices[id(calls[index].input)]
    conv, narrow = calls[index].layer, indices.get(id(calls[index].input))
    expands = isinstance(following[0], keras.layers.DepthwiseConv2D) and getattr(conv, "kernel_size", None) == (1, 1)
    return narrow if expands and narrow is not None and isinstance(calls[narrow].layer, LINEAR) else end
