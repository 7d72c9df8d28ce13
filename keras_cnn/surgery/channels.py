"""Another number of input channels for a trained network: what is behind the first convolutions stays as it is."""

from __future__ import annotations

import keras
import numpy as np
from keras import tree

from keras_cnn import arguments
from keras_cnn.surgery import kernels
from keras_cnn.surgery.graph import graph_of, remake, require_graph, rewrite, tensors_in
from keras_cnn.surgery.links import UnfitError, examples, mixed, picked, repetition


def adapt_input_channels(model: keras.Model, channels: int) -> keras.Model:
    """The same network for images with another number of channels, with its answers to repeated images kept.

    With more channels than before, the first kernel is repeated along its channels, each copy divided by the number of
    copies: an image whose channels repeat those of an old one (R G B R G B, or R G B R) gives what the old one gave.
    Normalisation by channel is repeated too. With fewer, kernels are summed: an image gives what its repetition gave (gray as
    R = G = B). Where sums would not give the old answer, because channels that become one are normalised by different
    statistics or go into a depthwise convolution, the image is repeated behind the input, and no weight is changed.

    Args:
        model: A functional or Sequential model with one input of images.
        channels: Number of channels, at least 1.

    Returns:
        A new model of the same name; `model` itself if it has so many channels already. The layers up to the first
        convolutions are new, with the same names; all others are those of `model`.

    Raises:
        ValueError: If `channels` is no positive integer; if the model has several inputs; if there are to be more channels
            and a layer before the first convolution mixes them, or has weights and is no normalisation by channel.

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
        outputs = _Adaption(axis).outputs(model, new, repetition(channels, before))
    except UnfitError:
        if channels > before:
            raise
        outputs = rewrite(graph, lambda *_: None, [_repeated(new, axis, before)])
    return keras.Model(tree.map_structure(lambda _: new, graph.input), outputs, name=model.name)


class _Adaption:
    """One pass over a graph and those nested in it."""

    def __init__(self, axis):
        self.axis = axis
        self.links = {}  # id of a tensor of the new graph -> its links; of those alone that are not yet as they were
        self.made = {}  # id of a layer -> (the one in its place, links of its input)

    def outputs(self, model, new, links):
        """Those of the new graph."""
        self.links[id(new)] = links
        outputs = rewrite(graph_of(model), self.step, [new])
        if any(id(x) in self.links for x in tree.flatten(outputs)):
            raise UnfitError(model, "has an output without a convolution before it")
        return outputs

    def step(self, node, args, kwargs):
        """For `rewrite`."""
        layer, tensors = node.operation, tensors_in(args, kwargs)
        links = [self.links.get(id(x)) for x in tensors]
        if all(x is None for x in links):
            return None
        if graph_of(layer) is not None:
            return self._nested(layer, links, args, kwargs)
        replacement = self._replacement(layer, tensors[0].ndim, links[0]) if len(tensors) == 1 else None
        new, after, weights = replacement or (layer, self._probed(node, links), {})
        new = self._once(layer, lambda: new, links) if replacement else layer
        outputs = new(*args, **kwargs)
        for name, value in weights.items():
            getattr(new, name).assign(value)
        if after is not None:
            self.links[id(outputs)] = after
        return outputs

    def _once(self, layer, make, links):
        """The layer in the place of a shared one, which must always see the same channels."""
        if id(layer) not in self.made:
            self.made[id(layer)] = (make(), links)
        new, known = self.made[id(layer)]
        if not all(np.array_equal(a, b) for a, b in zip(known, links, strict=True)):
            raise UnfitError(layer, "is called for channels in different orders")
        return new

    def _nested(self, model, links, args, kwargs):
        new = self._once(model, lambda: self._adapted(model, links), links)
        outputs = new(*args, **kwargs)
        for inner, outer in zip(new.outputs, tree.flatten(outputs), strict=True):
            if id(inner) in self.links:
                self.links[id(outer)] = self.links[id(inner)]
        return outputs

    def _adapted(self, model, links):
        graph = graph_of(model)
        pairs = list(zip(graph.inputs, links, strict=True))
        inputs = [old if of is None else _input(old, self.axis, len(of)) for old, of in pairs]
        self.links.update((id(x), of) for x, of in zip(inputs, links, strict=True) if of is not None)
        outputs = rewrite(graph, self.step, inputs)
        return keras.Model(tree.pack_sequence_as(graph.input, inputs), outputs, name=model.name)

    def _replacement(self, layer, ndim, links):
        """(new layer, links behind it, values of its weights); None for a layer without weights by channel."""
        kind = type(layer)
        mixes_last = kind in kernels.DENSE and self.axis == -1
        if mixes_last or (kind in kernels.CONVOLUTIONS and layer.groups == 1):
            return remake(layer), None, _with_bias(layer, kernel=mixed(layer.kernel, links, -2))
        if kind in kernels.TRANSPOSED:
            return remake(layer), None, _with_bias(layer, kernel=mixed(layer.kernel, links, -1))
        if kind in kernels.DEPTHWISE | kernels.SEPARABLE:
            return self._depthwise(layer, links)
        if kind is keras.layers.BatchNormalization and layer.axis % ndim == self.axis % ndim:
            return remake(layer), links, {weight.name: picked(layer, weight, links) for weight in layer.weights}
        if kind is keras.layers.Normalization and [axis % ndim for axis in layer.axis] == [self.axis % ndim]:
            values = {name: picked(layer, getattr(layer, name), links).tolist() for name in ("mean", "variance")}
            return remake(layer, **values), links, {}
        if kind is keras.layers.Rescaling and np.ndim(layer.scale) + np.ndim(layer.offset):
            values = {"scale": layer.scale, "offset": layer.offset}
            values = {name: np.broadcast_to(value, links.shape[1:]) for name, value in values.items()}
            return remake(layer, **{name: picked(layer, x, links).tolist() for name, x in values.items()}), links, {}
        if getattr(layer, "weights", ()):
            raise UnfitError(layer, "has weights that are not by channel alone")
        return None

    def _depthwise(self, layer, links):
        separable = type(layer) in kernels.SEPARABLE
        kernel = layer.depthwise_kernel if separable else layer.kernel
        after = np.kron(links, np.eye(kernel.shape[-1], dtype=bool))
        kernel = picked(layer, kernel, links, -2)
        if not separable:
            bias = {"bias": picked(layer, layer.bias, after)} if layer.use_bias else {}
            return remake(layer), after, {"kernel": kernel, **bias}
        pointwise = mixed(layer.pointwise_kernel, after, -2)
        return remake(layer), None, _with_bias(layer, depthwise_kernel=kernel, pointwise_kernel=pointwise)

    def _probed(self, node, links):
        """The links behind a layer without weights, found by trying it; None where the channels are as they were."""
        random, old, new = np.random.default_rng(0), {}, {}
        for x, of in zip(node.input_tensors, links, strict=True):
            old[id(x)], new[id(x)] = examples(random, x, of, self.axis)
        try:
            before, after = (self._positions_and_channels(node, values) for values in (old, new))
            found = np.isclose(after[:, :, None], before[:, None, :], rtol=1e-5).all(0)
        except Exception as error:  # whatever a layer does with channels that it was not made for
            raise UnfitError(node.operation, "does not") from error
        if not found.any(0).all():
            raise UnfitError(node.operation, "does not")
        return None if found.shape[0] == found.shape[1] and found.diagonal().all() else found

    def _positions_and_channels(self, node, values):
        """The output of a layer for these inputs, as a matrix."""
        args, kwargs = node.arguments.fill_in(values)
        if getattr(node.operation, "_call_has_training_arg", False):
            kwargs = {**kwargs, "training": False}
        y = keras.ops.cast(node.operation(*args, **kwargs), "float32")
        y = np.moveaxis(keras.ops.convert_to_numpy(y), self.axis, -1)
        return y.reshape(-1, y.shape[-1] if y.ndim > 2 else 0)


def _channel_axis(model):
    formats = (layer.data_format for layer in model._flatten_layers() if hasattr(layer, "data_format"))
    return 1 if next(formats, keras.config.image_data_format()) == "channels_first" else -1


def _input(old, axis, channels):
    shape = list(old.shape)
    shape[axis] = channels
    return keras.Input(batch_shape=shape, dtype=old.dtype, name=old._keras_history.operation.name)


def _repeated(x, axis, channels):
    """A tensor whose channels repeat those of `x`."""
    copies = -(-channels // x.shape[axis])
    y = keras.layers.Concatenate(axis=axis, name="repeated_channels")([x] * copies)
    if y.shape[axis] == channels:
        return y
    return y[:, :channels] if axis == 1 else y[..., :channels]


def _with_bias(layer, **weights):
    return {**weights, "bias": layer.bias} if layer.use_bias else weights
