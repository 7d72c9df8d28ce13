"""Which batch normalisation can become part of a layer beside it, and what stands in the way of the others."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import keras
from keras import tree

from keras_cnn.surgery import kernels
from keras_cnn.surgery.graph import nodes_of

IN_FRONT = kernels.CONVOLUTIONS | kernels.TRANSPOSED | kernels.DEPTHWISE | kernels.SEPARABLE | kernels.DENSE
BEHIND = kernels.CONVOLUTIONS | kernels.DENSE


@dataclass
class Fold:
    """A layer with a kernel, and the batch normalisation that becomes part of it."""

    layer: keras.layers.Layer
    before: keras.layers.BatchNormalization | None = None
    after: keras.layers.BatchNormalization | None = None


class Plan:
    """What to fold in one graph.

    Args:
        graph: From `graph_of`.
        frozen: Whether to fold, in training, only what is frozen, and only into the layer in front of it.

    Attributes:
        folds: id of a layer -> `Fold`.
        dropped: ids of the calls of batch normalisation that are folded.
        reasons: Name of a batch normalisation that stays -> why.
        training: ids of nested models that stay as they are, since they are called with training=True.
    """

    def __init__(self, graph, frozen: bool = False):
        self.folds, self.dropped, self.reasons = {}, set(), {}
        self._frozen = frozen
        self._calls, self._maker, self._takers = defaultdict(list), {}, defaultdict(list)
        self._ends = {id(x) for x in tree.flatten(graph.output)}
        for node in nodes_of(graph):
            self._calls[id(node.operation)].append(node)
            self._maker.update((id(x), node.operation) for x in node.outputs)
            for x in node.input_tensors:
                self._takers[id(x)].append(node)
        self.training = {key for key, calls in self._calls.items() if any(map(_trains, calls))}
        for node in nodes_of(graph):
            if isinstance(node.operation, keras.layers.BatchNormalization):
                self._decide(node)

    def _decide(self, node):
        norm = node.operation
        own = self._obstacle_within(node)
        front = own or self._obstacle_in_front(node)
        back = own or ("in training it stays" if self._frozen else self._obstacle_behind(node))
        if front and back:
            self.reasons.setdefault(norm.name, own or f"{front}; {back}")
            return
        layer = self._takers[id(node.outputs[0])][0].operation if front else self._maker[id(node.input_tensors[0])]
        fold = self.folds.setdefault(id(layer), Fold(layer))
        if front:
            fold.before = norm
        else:
            fold.after = norm
        self.dropped.add(id(node))

    def _obstacle_within(self, node):
        norm = node.operation
        if type(norm) is not keras.layers.BatchNormalization:
            return f"it is a {type(norm).__name__}, whose arithmetic is its own"
        if _trains(node):
            return "it is called with training=True, for the statistics of each batch"
        if self._frozen and norm.trainable:
            return "it is trainable"
        return "in training it has a penalty" if self._frozen and norm.activity_regularizer else None

    def _obstacle_in_front(self, node):
        x, norm = node.input_tensors[0], node.operation
        layer = self._maker.get(id(x))
        if layer is None:
            return "in front of it the model begins"
        if type(layer) not in IN_FRONT:
            return f"in front of it comes {_described(layer)}"
        if self._frozen and layer.activity_regularizer:
            return f"in training {layer.name!r} in front of it has a penalty"
        if layer.activation is not keras.activations.linear:
            return f"{layer.name!r} in front of it has an activation"
        for y in (call.outputs[0] for call in self._calls[id(layer)]):
            takers = self._takers[id(y)]
            alone = len(takers) == 1 and takers[0].operation is norm and not self._obstacle_within(takers[0])
            if not alone or id(y) in self._ends:
                return f"the output of {layer.name!r} in front of it has other uses"
        return _mismatch(layer, norm, x.ndim)

    def _obstacle_behind(self, node):
        y = node.outputs[0]
        takers = self._takers[id(y)]
        if len(takers) != 1 or id(y) in self._ends:
            return "its output has several uses" if takers else "behind it the model ends"
        layer = takers[0].operation
        if type(layer) not in BEHIND:
            return f"behind it comes {_described(layer)}"
        if _pads_with_zeros(layer):
            return f"{layer.name!r} behind it pads with zeros"
        if getattr(layer, "groups", 1) > 1:
            return f"{layer.name!r} behind it has groups"
        if len(self._calls[id(layer)]) > 1:
            return f"{layer.name!r} behind it is used several times"
        return _mismatch(layer, node.operation, y.ndim)


def _trains(node):
    return bool(node.arguments.kwargs.get("training"))


def _mismatch(layer, norm, ndim):
    """Why a layer with a kernel cannot do what a batch normalisation next to it does."""
    axis = 1 if getattr(layer, "data_format", "channels_last") == "channels_first" else ndim - 1
    if norm.axis % ndim != axis:
        return f"it normalises another axis than that of the channels of {layer.name!r}"
    if norm.compute_dtype != layer.compute_dtype:
        return f"{layer.name!r} computes in another dtype"
    if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
        return f"{layer.name!r} is quantized or has LoRA weights"
    return None


def _pads_with_zeros(layer):
    if type(layer) in kernels.DENSE or layer.padding == "valid":
        return False
    if isinstance(layer.padding, str):
        return max(layer.kernel_size) > 1
    return layer.padding_mode == "zeros" and any(map(any, layer.padding))


def _described(layer):
    return f"{layer.name!r} ({type(layer).__name__})"
