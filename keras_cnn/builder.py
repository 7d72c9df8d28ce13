"""The one place that makes a model out of blocks, or out of a network and a head."""

from __future__ import annotations

import keras

from keras_cnn import arguments
from keras_cnn.blocks.convolution import call


def build(input_shape, stages, head=None, name: str | None = None) -> keras.Model:
    """A functional model: an input, named stages, a head.

    Args:
        input_shape: Shape of one image, `(height, width, channels)`; sizes may be None.
        stages: Dict, in order, of a name -> a function of a tensor or a list of them: blocks of `kc.blocks` with their
            arguments bound, Keras layers, anything that maps a tensor to a tensor. A function with a free argument
            `name` is given the stage's, numbered in a list: stage "c2" has blocks "c2_1", "c2_2", ...
        head: A function of the last map, such as `kc.heads.classification(10)`. None: the model ends in that map.
        name: Name of the model.

    Returns:
        `keras.Model`. A layer without effect, named like the stage, ends each stage, so that
        `model.get_layer("c2").output` is its feature map, whatever the stage is made of.

    Raises:
        ValueError: If a function does not fit on the map it gets: names the stage, its place there, the shape and the
            arithmetic. If two layers have one name.
        TypeError: If `stages` is no dict of names, or if a stage holds, or returns, what it should not.
        Exception: Any other error of a function, with a note that names the stage.

    Example: a residual network for small images, ready for `model.compile` and `model.fit`.
        >>> from functools import partial
        >>> from keras_cnn import blocks, heads
        >>> model = build(
        ...     input_shape=(32, 32, 3),
        ...     stages={
        ...         "stem": partial(blocks.conv_norm_act, filters=16),
        ...         "c1": [partial(blocks.residual, filters=16)] * 2,
        ...         "c2": [partial(blocks.residual, filters=32, strides=2), partial(blocks.residual, filters=32)],
        ...         "c3": [partial(blocks.residual, filters=64, strides=2), partial(blocks.residual, filters=64)],
        ...     },
        ...     head=heads.classification(10),
        ... )
        >>> model.get_layer("c3").output.shape, model.output.shape
        ((None, 8, 8, 64), (None, 10))
    """
    if not isinstance(stages, dict) or not all(isinstance(name, str) and name and "/" not in name for name in stages):
        expected = 'a dict from names (strings without "/") to functions of a tensor, or lists of them'
        raise TypeError(arguments.message("build", "stages", expected, stages))
    inputs = x = keras.Input(input_shape, name="image")
    for stage, functions in stages.items():
        steps = functions if isinstance(functions, (list, tuple)) else [functions]
        for place, step in enumerate(steps, 1):
            where = f"build: stage {stage!r}, function {place} of {len(steps)},"
            x = _apply(step, x, where, stage if len(steps) == 1 else f"{stage}_{place}")
        x = keras.layers.Identity(name=stage)(x)
    y = x if head is None else _apply(head, x, "build: the head")
    return _model(inputs, y, name, "build: stages and head")


def attach(model: keras.Model, head, name: str | None = None) -> keras.Model:
    """`model` with a head on its output, in one flat graph that shares the model's layers.

    A model nested in another hides its layers from inspection; here every layer stays reachable by `get_layer`.

    Args:
        model: Functional model, such as `backbone.model`.
        head: A function of the model's output, such as `kc.heads.classification(10)`. It may reach for earlier maps:
            `lambda x: kc.blocks.upsample(x, 32, skip=model.get_layer("c1").output)`.
        name: Name of the new model. None: that of `model`.

    Raises:
        ValueError, TypeError: As in `build`, if the head does not fit.
    """
    y = _apply(head, model.output, "attach: the head")
    return _model(model.input, y, name or model.name, "attach: model and head")


def _apply(function, x, where, name=None):
    """The function's tensor; an error says where in the network it arose."""
    if isinstance(function, type):
        kind = function.__name__
        raise TypeError(f"{where} must be a function of a tensor. Received: the class {kind}. Make it: {kind}(...).")
    if not callable(function):
        raise TypeError(f"{where} must be a function of a tensor. Received: {function!r}.")
    failure = f"{where} fails on a map of shape {x.shape}."
    try:
        y = call(function, x, name)
    except ValueError as error:
        raise ValueError(f"{failure} {error}") from error
    except Exception as error:
        error.add_note(failure)
        raise
    if not isinstance(y, keras.KerasTensor):
        raise TypeError(f"{where} must return a tensor. Received: {y!r}.")
    return y


def _model(inputs, outputs, name, what):
    """The model from inputs to outputs; an error says what names and tensors a model needs."""
    try:
        return keras.Model(inputs, outputs, name=name)
    except ValueError as error:
        raise ValueError(
            f"{what} do not make one model: each layer needs a name of its own (the input is 'image', each stage is a "
            f"layer of its name, heads have 'pool', 'logits', ...), and each tensor must come from the input. {error}"
        ) from error
