"""The network that a job begins with: RGB images 0..255 in, float32 throughout; or refused before an image is read."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from typing import Any

import keras
import numpy as np

import keras_cnn as kc
from keras_cnn import arguments, keras_internals
from keras_cnn.backbones.loading import with_channels
from keras_cnn.backbones.staging import rebuild
from keras_cnn.surgery.graph import graph_of, nodes_of
from pipelines.errors import InputError

NORMALIZING = (keras.layers.Normalization, keras.layers.BatchNormalization)
OTHER_FLOATS = {"float16", "bfloat16", "float64"}
WHITE = 255


def load_network(
    backbone: str | os.PathLike | kc.Backbone,
    weights: str | None = "default",
    size: int | None = None,
    input_range: tuple[float, float] | None = None,
) -> kc.Backbone:
    """A backbone that can be trained, tested and exported on RGB images.

    What comes from a file is made so: one of gray images gets a kernel for each colour, by which R = G = B is what gray was;
    one that computes in another precision than float32 is built in float32, with the same weights. A `Backbone` that is
    given is trained in place, and therefore only checked.

    Args:
        backbone: A handle of `keras_cnn.load_backbone`, or a `keras_cnn.Backbone`.
        weights: As in `keras_cnn.load_backbone`; for handles.
        size: Height and width in pixels, None for what it was pretrained with; for handles.
        input_range: As in `keras_cnn.load_backbone`, None for what the origin says; for handles.

    Raises:
        InputError: If there is no such network, or it cannot be made so.
    """
    if isinstance(backbone, kc.Backbone):
        for name, value, default in (
            ("weights", weights, "default"),
            ("size", size, None),
            ("input_range", input_range, None),
        ):
            if value != default:
                raise InputError(
                    f"fine_tune: `{name}` must be {default!r} for a keras_cnn.Backbone. Received: {value!r}. Give it to "
                    "load_backbone."
                )
        _check(backbone)
        return backbone
    if not isinstance(backbone, str | os.PathLike):
        raise InputError(
            f"fine_tune: `backbone` must be a handle of load_backbone, or a Backbone. Received: {backbone!r}."
        )
    try:
        options: dict[str, Any] = {} if input_range is None else {"input_range": input_range}
        shape = None if size is None else (size, size, None)
        network = _of_colours(_in_float32(kc.load_backbone(backbone, shape, weights, **options)))
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise InputError(str(error)) from None
    _check(network)
    if os.fspath(backbone).endswith(".keras") and input_range is None:
        _warn_of_large_numbers(network)
    return network


def _of_colours(network):
    return with_channels(network, 3) if network.model.inputs[0].shape[-1] == 1 else network


def _check(network):
    """Refuse what a job could not bring to its end."""
    handle = getattr(network.source, "handle", network.source)  # a Backbone of the user's may name its source in words
    shapes = [tensor.shape[1:] for tensor in network.model.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][-1] != 3:
        raise InputError(
            f"fine_tune: `backbone` must take RGB images, (height, width, 3). Received: {handle}, which takes "
            f"{' and '.join(map(str, shapes))}. In Python, load_backbone with 3 channels in `input_shape` adapts its first "
            "kernels; give what it returns as `backbone`."
        )
    other = next(_in_other_precision(network.model), None)
    if other is not None:
        raise InputError(
            f"fine_tune: `backbone` must compute in float32, as the exported network does. Received: {handle}, whose layer "
            f"{other.name!r} has the policy {other.dtype_policy.name!r}. Give its handle or path instead, which is made "
            "in float32, and train with mixed_precision=True."
        )
    broken = next((weight.path for weight in network.model.weights if not _is_finite(weight)), None)
    if broken is not None:
        raise InputError(
            f"fine_tune: the weights of `backbone` must be finite. Received: {handle}, whose {broken} holds NaN or infinity. "
            "Take an earlier checkpoint."
        )


def _is_finite(weight):
    return "float" not in weight.dtype or bool(np.isfinite(keras.ops.convert_to_numpy(weight)).all())


def _in_other_precision(model):
    return (
        layer
        for layer in keras_internals.sublayers(model, include_self=False)
        if {layer.compute_dtype, layer.variable_dtype} & OTHER_FLOATS and not isinstance(layer, keras.layers.InputLayer)
    )


def _in_float32(network):
    """The same layers, made again where some compute in other floats: a layer keeps the policy that it was made under."""
    other = next(_in_other_precision(network.model), None)
    if other is None:
        return network
    made = {}

    def step(node, args, kwargs):
        layer = node.operation
        if not isinstance(layer, keras.layers.Layer):
            return None
        if id(layer) not in made:
            made[id(layer)] = layer, type(layer).from_config(_config_in_float32(layer.get_config()))
        return made[id(layer)][1](*args, **kwargs)

    try:
        model = rebuild(network.model, network.model.input_shape[1:], step)
        for old, new in made.values():
            new.set_weights([keras.ops.convert_to_numpy(weight) for weight in old.weights])
    except Exception as error:  # what a layer of the user's own does with its configuration
        policy, reason = other.dtype_policy.name, arguments.short_message(error)
        raise ValueError(
            f"fine_tune: {network.source.handle} computes in {policy}, and cannot be made in float32: {reason}"
        ) from None
    return replace(network, model=model)


def _config_in_float32(config):
    """A configuration with each policy of other floats replaced, in layers within layers too."""
    if isinstance(config, dict) and "DTypePolicy" in str(config.get("class_name")):
        policy = keras.dtype_policies.deserialize(config)
        return "float32" if {policy.compute_dtype, policy.variable_dtype} & OTHER_FLOATS else config
    if isinstance(config, dict):
        return {name: _config_in_float32(value) for name, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(map(_config_in_float32, config))
    return config


def _warn_of_large_numbers(network):
    largest = _largest_input(network)
    if largest >= WHITE:
        warnings.warn(
            f"{network.source.handle} has no scaling for images of 0..255 in it: its first kernels get numbers up to "
            f"{largest:,.0f}. If it was trained on 0..1 or -1..1, add --input-range 0,1 or --input-range -1,1 (in Python "
            "input_range=(0, 1)); if on 0..255, --input-range 0,255 ends this warning.",
            stacklevel=4,
        )


def _largest_input(network):
    """The largest number that the first layer with a kernel gets of a black and of a white image."""
    model = network.model
    first = next((node for node in nodes_of(graph_of(model)) if _has_kernel(node.operation)), None)
    if first is None:
        return 0.0
    front = keras.Model(model.input, first.input_tensors[0])
    black_and_white = np.zeros((2, *network.preprocessing.size, 3), "float32")
    black_and_white[1] = WHITE
    return float(np.abs(keras.ops.convert_to_numpy(front(black_and_white, training=False))).max())


def _has_kernel(layer):
    return bool(getattr(layer, "weights", ())) and not isinstance(layer, NORMALIZING)
