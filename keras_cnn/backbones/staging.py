"""Stages of any functional network, found by stride from its graph and marked in it by layers of their names.

Stage n is the part whose feature maps have stride 2^n: "stage4" has stride 16 in every network, and a network whose first
layer already divides by 4 has no "stage1". A stage ends in the last tensor of its stride through which all paths of the
network pass: behind the last residual sum, before a shortcut or a branch opens into the next stage, and before the
expansion of an inverted residual block (Sandler et al., 2018, MobileNetV2, arXiv:1801.04381), whose thin ends are the
network's features. Where paths run beside each other all the way (NASNet), it is the tensor with the fewest others that
are computed neither for it nor from it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import keras

from keras_cnn import fetching
from keras_cnn.backbones.backbone import Stage
from keras_cnn.surgery.graph import graph_of, nodes_of, require_graph, rewrite

ENLARGING = (keras.layers.Conv2DTranspose, keras.layers.UpSampling2D)
MARGINS = (keras.layers.ZeroPadding2D, keras.layers.Cropping2D)
EXAMPLE = 256  # side of the images on which a network is looked at that takes any
POINTWISE = (keras.layers.Activation, keras.layers.ReLU, keras.layers.BatchNormalization)
LINEAR = (keras.layers.Add, keras.layers.BatchNormalization)


class Step(NamedTuple):
    """One call in a network.

    Attributes:
        node: The call, as Keras keeps it.
        stride: Input pixels between neighbouring positions of its output. None: the output is no feature map.
        beside: Number of calls that neither contribute to its output nor make use of it.
    """

    node: object
    stride: int | None
    beside: int

    @property
    def layer(self):
        return self.node.operation

    @property
    def input(self):
        return self.node.input_tensors[0]

    @property
    def output(self):
        return self.node.outputs[0]


def steps(graph) -> list[Step]:
    """The calls in a graph with one input, each behind those that it takes its inputs from.

    Raises:
        ValueError: If the strides of height and width differ.
    """
    nodes = list(nodes_of(graph))
    place = {id(tensor): i for i, node in enumerate(nodes) for tensor in node.outputs}
    before = [[place[id(tensor)] for tensor in node.input_tensors if id(tensor) in place] for node in nodes]
    # Sets of calls as the bits of an integer: those that each call depends on, itself among them, and the converse.
    needs, serves = [1 << i for i in range(len(nodes))], [1 << i for i in range(len(nodes))]
    for i, previous in enumerate(before):
        for j in previous:
            needs[i] |= needs[j]
    for i, previous in reversed(list(enumerate(before))):
        for j in previous:
            serves[j] |= serves[i]
    strides, found = {id(graph.inputs[0]): 1}, []
    for node, upstream, downstream in zip(nodes, needs, serves, strict=True):
        stride = _stride(node, strides)
        strides.update((id(tensor), stride) for tensor in node.outputs)
        found.append(Step(node, stride, len(nodes) - (upstream | downstream).bit_count()))
    return found


def stage_ends(found: list[Step]) -> list[int]:
    """Where the stages end, as places in the list of `steps`, shallow to deep; the last one is the last call."""
    ends = []
    for stride in sorted({step.stride for step in found if step.stride and 1 < step.stride < found[-1].stride}):
        own = [i for i, step in enumerate(found) if step.stride == stride and not isinstance(step.layer, MARGINS)]
        fewest = min(found[i].beside for i in own)
        ends.append(_before_expansion(found, [i for i in own if found[i].beside == fewest][-1]))
    return [*ends, len(found) - 1]


def staged(model: keras.Model, size, normalize) -> tuple[keras.Model, tuple[Stage, ...]]:
    """The same network on images 0..255, up to its last feature map, with a layer behind each stage; and the stages.

    Args:
        model: A functional or Sequential model. Its layers go over to the new one: it must not be used afterwards.
        size: Height and width, each a number or None. None: those of the model.
        normalize: Function of a tensor: from 0..255 to what `model` expects.

    Raises:
        ValueError: If it has several inputs or outputs, if its maps shrink in one direction only, if it ends in no feature
            map, and in nothing that pools one, or if it does not take images of that size.
    """
    graph = require_graph("load_backbone", model)
    if len(graph.inputs) != 1 or len(graph.outputs) != 1 or len(graph.inputs[0].shape) != 4:
        _refuse(
            model, f"has one input, of images, and one output; this has {len(graph.inputs)} and {len(graph.outputs)}"
        )
    rows, columns, channels = graph.inputs[0].shape[1:]
    height, width = size or (rows, columns)
    # Some layers tell their stride by their shapes only; and a model that was made from a backbone has its marks.
    if None in (rows, columns) or any(map(_is_mark, graph.operations)):
        model = _of_size(model, (rows or height or EXAMPLE, columns or width or EXAMPLE, channels), _unmarked)
        graph = graph_of(model)
    found = _up_to_last_map(model, steps(graph))
    ends, stages = {id(found[end].node): found[end].stride for end in stage_ends(found)}, []

    def mark(node, args, kwargs):
        stride = ends.get(id(node))
        if stride is None:
            return None
        y = node.operation(*args, **kwargs)
        stages.append(Stage(f"stage{stride.bit_length() - 1}", stride, y.shape[-1]))
        return keras.layers.Identity(name=stages[-1].name)(y)

    if found[-1].output is not graph.outputs[0]:
        model = keras.Model(graph.inputs[0], found[-1].output, name=model.name)
    return _of_size(model, (height, width, channels), mark, normalize), tuple(stages)


def _up_to_last_map(model, found):
    """The calls up to the last feature map that all paths pass; behind it there may be its pooling, and a head.

    What has no weights is the image itself, brought to another range or size.
    """
    place = max((i for i, step in enumerate(found) if step.stride and not step.beside), default=None)
    if place is None or not any(getattr(step.layer, "weights", ()) for step in found[: place + 1]):
        _refuse(model, "computes feature maps; this has none")
    last = found[place].output
    for step in found[place + 1 :]:
        pooled = len(step.output.shape) == 2 or step.output.shape[1:3] == (1, 1)
        if any(x is last for x in step.node.input_tensors) and not pooled:
            _refuse(model, f"ends in a feature map, or pools it; here the last one goes into {step.layer.name!r}")
    return found[: place + 1]


def _refuse(model, expected):
    raise ValueError(f"load_backbone: {model.name!r} must be a network that {expected.rstrip('.')}.") from None


def _of_size(model, shape, *how):
    """As `renewed`, with what Keras says in a sentence."""
    try:
        return renewed(model, shape, *how)
    except ValueError as error:
        _refuse(model, f"takes images of {shape[0]} x {shape[1]}; Keras says: {fetching.in_short(error)}")


def renewed(model: keras.Model, shape, step=lambda *_: None, first=lambda x: x) -> keras.Model:
    """The same network from another input, in which `layer.output` of each layer belongs to it and to no older model.

    Args:
        model: As in `staged`.
        shape: Of one image.
        step: As in `rewrite`.
        first: Function of a tensor, applied to the images.
    """
    graph = graph_of(model)
    for operation in graph.operations:
        operation._inbound_nodes.clear()
        operation._outbound_nodes.clear()
    image = keras.Input(shape, name="image")
    (output,) = keras.tree.flatten(rewrite(graph, step, [first(image)]))
    return keras.Model(image, output, name=model.name)


def _is_mark(layer):
    """Whether a layer ended a stage before."""
    return isinstance(layer, keras.layers.Identity) and re.fullmatch(r"stage\d+", layer.name) is not None


def _unmarked(node, args, _):
    return args[0] if _is_mark(node.operation) else None


def _stride(node, strides):
    """The stride of what a call gives; None for what is no feature map."""
    operation, output = node.operation, node.outputs[0]
    before = max((strides[id(tensor)] or 0 for tensor in node.input_tensors), default=0)
    if not before or len(output.shape) != 4:
        return None
    if isinstance(operation, MARGINS):
        return before
    if isinstance(operation, ENLARGING):
        return before // _factor(operation, getattr(operation, "size", None) or operation.strides) or None
    if graph_of(operation) is not None:
        inside = steps(graph_of(operation))[-1].stride
        return inside and before * inside
    if hasattr(operation, "strides"):
        return before * _factor(operation, operation.strides)
    return _by_shape(before, node.input_tensors[0].shape, output.shape)


def _factor(layer, strides):
    """The one number of a layer's strides."""
    numbers = {strides} if isinstance(strides, int) else set(strides)
    if len(numbers) != 1:
        raise ValueError(
            f"load_backbone: a network must shrink height and width alike. Received: {layer.name!r} with strides {strides}."
        )
    return numbers.pop()


def _by_shape(before, old, new):
    """For operations that do not tell their stride: how much smaller the map becomes, where its size is known."""
    if new[1:3] == (1, 1) and old[1:3] != (1, 1):
        return None
    if len(old) == 4 and old[1] and new[1]:
        return before * max(1, round(old[1] / new[1]))
    return before


def _before_expansion(found, end):
    """`end`, or the place where the block begins whose expansion it is."""
    behind = [step.layer for step in found[end + 1 :] if not isinstance(step.layer, MARGINS)]
    places = {id(step.output): i for i, step in enumerate(found)}
    place = end
    while isinstance(found[place].layer, POINTWISE) and id(found[place].input) in places:
        place = places[id(found[place].input)]
    conv, thin = found[place].layer, places.get(id(found[place].input))
    expands = isinstance(behind[0], keras.layers.DepthwiseConv2D) and getattr(conv, "kernel_size", None) == (1, 1)
    return thin if expands and thin is not None and isinstance(found[thin].layer, LINEAR) else end
