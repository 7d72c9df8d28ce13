"""Another number of input channels for a trained network; the layers after the first convolutions stay as they are."""

from __future__ import annotations

import keras
import numpy as np
from keras import tree

from keras_cnn import arguments
from keras_cnn.keras_internals import producer, sublayers, takes_training
from keras_cnn.surgery import layer_kinds
from keras_cnn.surgery.channel_maps import (
    IncompatibleLayerError,
    example_pair,
    gather_channels,
    mix_channels,
    repeating_map,
)
from keras_cnn.surgery.graph import clone_layer, graph_of, require_graph, rewrite, tensors_in


def adapt_input_channels(model: keras.Model, channels: int) -> keras.Model:
    """The same network for images with another number of channels; for repeated images its output stays the same.

    With more channels than before, the first kernel is repeated along its channels, and each copy is divided by the number of
    copies: an image whose channels repeat those of an old one (R G B R G B, or R G B R) gives the old output.
    Per-channel normalisation is repeated too. With fewer, kernels are summed: an image gives what its repetition gave (gray as
    R = G = B). Where sums would not give the old output, because channels that become one are normalised by different
    statistics or enter a depthwise convolution, the image is repeated after the input, and no weight is changed.

    Args:
        model: A functional or Sequential model with one input of images.
        channels: Number of channels, at least 1.

    Returns:
        A new model of the same name; `model` itself if it already has this number of channels. The layers up to the first
        convolutions are new, with the same names; all others are those of `model`.

    Raises:
        ValueError: If `channels` is not a positive integer; if the model has several inputs; if the number of channels grows
            and a layer before the first convolution mixes them, or has weights and is not a per-channel normalisation.

    Example:
        >>> inputs = keras.Input((32, 32, 3))
        >>> model = keras.Model(inputs, keras.layers.Conv2D(8, 3, name="conv")(inputs))
        >>> gray = adapt_input_channels(model, 1)
        >>> gray.input_shape, tuple(gray.get_layer("conv").kernel.shape)
        ((None, 32, 32, 1), (3, 3, 1, 8))
    """
    channels = arguments.integer("adapt_input_channels", "channels", channels)
    graph = require_graph("adapt_input_channels", model)
    old, axis = graph.inputs[0], _channel_axis(model)
    if len(graph.inputs) != 1 or len(old.shape) < 3 or old.shape[axis] is None:
        shapes = ", ".join(str(x.shape) for x in graph.inputs)
        raise ValueError(
            f"adapt_input_channels: the model must have one input, of images. Received: inputs of {shapes}."
        )
    before = old.shape[axis]
    if before == channels:
        return model
    new = _input(old, axis, channels)
    try:
        outputs = _Adapter(axis).outputs(model, new, repeating_map(channels, before))
    except IncompatibleLayerError:
        if channels > before:
            raise
        outputs = rewrite(graph, lambda *_: None, [_repeated(new, axis, before)])
    return keras.Model(tree.map_structure(lambda _: new, graph.input), outputs, name=model.name)


class _Adapter:
    """One pass over a graph and those nested in it."""

    def __init__(self, axis):
        self.axis = axis
        self.channel_maps = {}  # id of a tensor of the new graph -> its channel map; only of tensors with changed channels
        self.replaced = {}  # id of a layer -> (the layer that replaces it, channel maps of its inputs)

    def outputs(self, model, new, channel_map):
        """The outputs of the new graph."""
        self.channel_maps[id(new)] = channel_map
        outputs = rewrite(graph_of(model), self.step, [new])
        if any(id(x) in self.channel_maps for x in tree.flatten(outputs)):
            raise IncompatibleLayerError(model, "has an output without a convolution before it")
        return outputs

    def step(self, node, args, kwargs):
        """For `rewrite`."""
        layer, tensors = node.operation, tensors_in(args, kwargs)
        maps = [self.channel_maps.get(id(x)) for x in tensors]
        if all(x is None for x in maps):
            return None
        if graph_of(layer) is not None:
            return self._nested(layer, maps, args, kwargs)
        replacement = self._replacement(layer, tensors[0].ndim, maps[0]) if len(tensors) == 1 else None
        new, output_map, weights = replacement or (layer, self._map_after(node, maps), {})
        new = self._once(layer, lambda: new, maps) if replacement else layer
        outputs = new(*args, **kwargs)
        for name, value in weights.items():
            getattr(new, name).assign(value)
        if output_map is not None:
            self.channel_maps[id(outputs)] = output_map
        return outputs

    def _once(self, layer, make, maps):
        """The layer that replaces a shared one, whose inputs must always have the same channels."""
        if id(layer) not in self.replaced:
            self.replaced[id(layer)] = (make(), maps)
        new, known = self.replaced[id(layer)]
        if not all(np.array_equal(a, b) for a, b in zip(known, maps, strict=True)):
            raise IncompatibleLayerError(layer, "is called for channels in different orders")
        return new

    def _nested(self, model, maps, args, kwargs):
        new = self._once(model, lambda: self._adapted(model, maps), maps)
        outputs = new(*args, **kwargs)
        for inner, outer in zip(new.outputs, tree.flatten(outputs), strict=True):
            if id(inner) in self.channel_maps:
                self.channel_maps[id(outer)] = self.channel_maps[id(inner)]
        return outputs

    def _adapted(self, model, maps):
        graph = graph_of(model)
        pairs = list(zip(graph.inputs, maps, strict=True))
        inputs = [old if of is None else _input(old, self.axis, len(of)) for old, of in pairs]
        self.channel_maps.update((id(x), of) for x, of in zip(inputs, maps, strict=True) if of is not None)
        outputs = rewrite(graph, self.step, inputs)
        return keras.Model(tree.pack_sequence_as(graph.input, inputs), outputs, name=model.name)

    def _replacement(self, layer, ndim, channel_map):
        """(new layer, channel map of its output, values of its weights); None for a layer without per-channel weights."""
        kind = type(layer)
        mixes_last = kind in layer_kinds.DENSE and self.axis == -1
        if mixes_last or (kind in layer_kinds.CONVOLUTIONS and layer.groups == 1):
            kernel = mix_channels(layer.kernel, channel_map, -2)
            return clone_layer(layer), None, _with_bias(layer, kernel=kernel)
        if kind in layer_kinds.TRANSPOSED:
            kernel = mix_channels(layer.kernel, channel_map, -1)
            return clone_layer(layer), None, _with_bias(layer, kernel=kernel)
        if kind in layer_kinds.DEPTHWISE | layer_kinds.SEPARABLE:
            return self._depthwise(layer, channel_map)
        if kind is keras.layers.BatchNormalization and layer.axis % ndim == self.axis % ndim:
            values = {weight.name: gather_channels(layer, weight, channel_map) for weight in layer.weights}
            return clone_layer(layer), channel_map, values
        if kind is keras.layers.Normalization and [axis % ndim for axis in layer.axis] == [self.axis % ndim]:
            values = {x: gather_channels(layer, getattr(layer, x), channel_map).tolist() for x in ("mean", "variance")}
            return clone_layer(layer, **values), channel_map, {}
        if kind is keras.layers.Rescaling and np.ndim(layer.scale) + np.ndim(layer.offset):
            values = {"scale": layer.scale, "offset": layer.offset}
            values = {name: np.broadcast_to(value, channel_map.shape[1:]) for name, value in values.items()}
            values = {name: gather_channels(layer, value, channel_map).tolist() for name, value in values.items()}
            return clone_layer(layer, **values), channel_map, {}
        if getattr(layer, "weights", ()):
            raise IncompatibleLayerError(layer, "has weights that are not per channel")
        return None

    def _depthwise(self, layer, channel_map):
        separable = type(layer) in layer_kinds.SEPARABLE
        kernel = layer.depthwise_kernel if separable else layer.kernel
        output_map = np.kron(channel_map, np.eye(kernel.shape[-1], dtype=bool))
        kernel = gather_channels(layer, kernel, channel_map, -2)
        if not separable:
            bias = {"bias": gather_channels(layer, layer.bias, output_map)} if layer.use_bias else {}
            return clone_layer(layer), output_map, {"kernel": kernel, **bias}
        pointwise = mix_channels(layer.pointwise_kernel, output_map, -2)
        return clone_layer(layer), None, _with_bias(layer, depthwise_kernel=kernel, pointwise_kernel=pointwise)

    def _map_after(self, node, maps):
        """The channel map of the output of a layer without weights, from a trial call; None if its channels are unchanged."""
        random, old, new = np.random.default_rng(0), {}, {}
        for x, channel_map in zip(node.input_tensors, maps, strict=True):
            old[id(x)], new[id(x)] = example_pair(random, x, channel_map, self.axis)
        try:
            before, after = (self._positions_and_channels(node, values) for values in (old, new))
            found = np.isclose(after[:, :, None], before[:, None, :], rtol=1e-5).all(0)
        except Exception as error:  # a layer may raise anything for an unexpected number of channels
            raise IncompatibleLayerError(node.operation, "does not") from error
        if not found.any(0).all():
            raise IncompatibleLayerError(node.operation, "does not")
        return None if found.shape[0] == found.shape[1] and found.diagonal().all() else found

    def _positions_and_channels(self, node, values):
        """The output of a layer for these inputs, as a matrix."""
        args, kwargs = node.arguments.fill_in(values)
        if takes_training(node.operation):
            kwargs = {**kwargs, "training": False}
        y = keras.ops.cast(node.operation(*args, **kwargs), "float32")
        y = np.moveaxis(keras.ops.convert_to_numpy(y), self.axis, -1)
        return y.reshape(-1, y.shape[-1] if y.ndim > 2 else 0)


def _channel_axis(model):
    formats = (layer.data_format for layer in sublayers(model) if hasattr(layer, "data_format"))
    return 1 if next(formats, keras.config.image_data_format()) == "channels_first" else -1


def _input(old, axis, channels):
    shape = list(old.shape)
    shape[axis] = channels
    return keras.Input(batch_shape=shape, dtype=old.dtype, name=producer(old).name)


def _repeated(x, axis, channels):
    """A tensor whose channels repeat those of `x`."""
    copies = -(-channels // x.shape[axis])
    y = keras.layers.Concatenate(axis=axis, name="repeated_channels")([x] * copies)
    if y.shape[axis] == channels:
        return y
    return y[:, :channels] if axis == 1 else y[..., :channels]


def _with_bias(layer, **weights):
    return {**weights, "bias": layer.bias} if layer.use_bias else weights
