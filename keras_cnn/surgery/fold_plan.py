"""Which batch normalisation a neighbouring layer can absorb, and why it cannot absorb the others."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import keras
from keras import tree

from keras_cnn.surgery import layer_kinds
from keras_cnn.surgery.graph import nodes_of

# Layers that can absorb the batch normalisation after them, and before them.
FOLD_NEXT = (
    layer_kinds.CONVOLUTIONS
    | layer_kinds.TRANSPOSED
    | layer_kinds.DEPTHWISE
    | layer_kinds.SEPARABLE
    | layer_kinds.DENSE
)
FOLD_PREVIOUS = layer_kinds.CONVOLUTIONS | layer_kinds.DENSE


@dataclass
class Fold:
    """A layer with a kernel, and the batch normalisation before and after it that it absorbs."""

    layer: keras.layers.Layer
    before: keras.layers.BatchNormalization | None = None
    after: keras.layers.BatchNormalization | None = None


class FoldPlan:
    """What to fold in one graph.

    Args:
        graph: From `graph_of`.
        for_training: Whether to fold only what is frozen, and only into the layer before it.

    Attributes:
        folds: id of a layer -> `Fold`.
        folded_nodes: ids of the calls of batch normalisation that are folded.
        reasons: Name of a batch normalisation that stays -> why.
        training: ids of nested models that stay as they are, since they are called with training=True.
    """

    def __init__(self, graph: Any, for_training: bool = False):
        self.folds: dict[int, Fold] = {}
        self.folded_nodes: set[int] = set()
        self.reasons: dict[str, str] = {}
        self._for_training = for_training
        self._calls: dict[int, list] = defaultdict(list)
        self._producer: dict[int, Any] = {}
        self._consumers: dict[int, list] = defaultdict(list)
        self._outputs = {id(x) for x in tree.flatten(graph.output)}
        for node in nodes_of(graph):
            self._calls[id(node.operation)].append(node)
            self._producer.update((id(x), node.operation) for x in node.outputs)
            for x in node.input_tensors:
                self._consumers[id(x)].append(node)
        self.training = {key for key, calls in self._calls.items() if any(map(_is_training, calls))}
        for node in nodes_of(graph):
            if isinstance(node.operation, keras.layers.BatchNormalization):
                self._decide(node)

    def _decide(self, node):
        norm = node.operation
        why_not = self._why_not(node)
        why_not_previous = why_not or self._why_not_previous(node)
        why_not_next = why_not or ("in training it stays" if self._for_training else self._why_not_next(node))
        if why_not_previous and why_not_next:
            self.reasons.setdefault(norm.name, why_not or f"{why_not_previous}; {why_not_next}")
            return
        if why_not_previous:
            layer = self._consumers[id(node.outputs[0])][0].operation
            self.folds.setdefault(id(layer), Fold(layer)).before = norm
        else:
            layer = self._producer[id(node.input_tensors[0])]
            self.folds.setdefault(id(layer), Fold(layer)).after = norm
        self.folded_nodes.add(id(node))

    def _why_not(self, node):
        """Why no layer can absorb this batch normalisation."""
        norm = node.operation
        if type(norm) is not keras.layers.BatchNormalization:
            return f"it is a {type(norm).__name__}, whose arithmetic may differ"
        if _is_training(node):
            return "it is called with training=True, for the statistics of each batch"
        if self._for_training and norm.trainable:
            return "it is trainable"
        return "in training it has a regularizer" if self._for_training and norm.activity_regularizer else None

    def _why_not_previous(self, node):
        """Why the layer before it cannot absorb it."""
        x, norm = node.input_tensors[0], node.operation
        layer = self._producer.get(id(x))
        if layer is None:
            return "the model begins with it"
        if type(layer) not in FOLD_NEXT:
            return f"it follows {_described(layer)}"
        if self._for_training and layer.activity_regularizer:
            return f"in training {layer.name!r} before it has a regularizer"
        if layer.activation is not keras.activations.linear:
            return f"{layer.name!r} before it has an activation"
        for y in (call.outputs[0] for call in self._calls[id(layer)]):
            consumers = self._consumers[id(y)]
            alone = len(consumers) == 1 and consumers[0].operation is norm and not self._why_not(consumers[0])
            if not alone or id(y) in self._outputs:
                return f"the output of {layer.name!r} before it has other uses"
        return _mismatch(layer, norm, x.ndim)

    def _why_not_next(self, node):
        """Why the layer after it cannot absorb it."""
        y = node.outputs[0]
        consumers = self._consumers[id(y)]
        if len(consumers) != 1 or id(y) in self._outputs:
            return "its output has several uses" if consumers else "the model ends with it"
        layer = consumers[0].operation
        if type(layer) not in FOLD_PREVIOUS:
            return f"{_described(layer)} follows it"
        if _pads_with_zeros(layer):
            return f"{layer.name!r} after it pads with zeros"
        if getattr(layer, "groups", 1) > 1:
            return f"{layer.name!r} after it has groups"
        if len(self._calls[id(layer)]) > 1:
            return f"{layer.name!r} after it is used several times"
        return _mismatch(layer, node.operation, y.ndim)


def _is_training(node):
    return bool(node.arguments.kwargs.get("training"))


def _mismatch(layer, norm, ndim):
    """Why a layer with a kernel cannot compute what a batch normalisation next to it computes."""
    axis = 1 if getattr(layer, "data_format", "channels_last") == "channels_first" else ndim - 1
    if norm.axis % ndim != axis:
        return f"it normalises another axis than that of the channels of {layer.name!r}"
    if norm.compute_dtype != layer.compute_dtype:
        return f"{layer.name!r} computes in another dtype"
    if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
        return f"{layer.name!r} is quantized or has LoRA weights"
    return None


def _pads_with_zeros(layer):
    if type(layer) in layer_kinds.DENSE or layer.padding == "valid":
        return False
    if isinstance(layer.padding, str):
        return max(layer.kernel_size) > 1
    return layer.padding_mode == "zeros" and any(map(any, layer.padding))


def _described(layer):
    return f"{layer.name!r} ({type(layer).__name__})"
