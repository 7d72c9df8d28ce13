"""The one place that makes a model from blocks, or from a network and a head."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from keras_cnn import arguments
from keras_cnn.blocks.plumbing import Block, apply_step


def build(
    input_shape: tuple[int | None, ...],
    stages: Mapping[str, Callable[..., keras.KerasTensor] | Sequence[Callable[..., keras.KerasTensor]]],
    head: Callable[[keras.KerasTensor], keras.KerasTensor] | None = None,
    name: str | None = None,
) -> keras.Model:
    """A functional model: an input, named stages, a head.

    Args:
        input_shape: Shape of one image, `(height, width, channels)`; height and width can be None.
        stages: Dict from a name to a function of a tensor or to a list of such functions, in the order of the network:
            blocks of `kc.blocks` with bound arguments, Keras layers, anything that maps a tensor to a tensor. A
            function with an unbound argument `name` gets the name of the stage, numbered in a list: the blocks of stage
            "c2" are "c2_1", "c2_2", ...
        head: A function of the last map, such as `kc.heads.classification(10)`. None: the model ends in that map.
        name: Name of the model.

    Returns:
        `keras.Model`. Each stage ends in a layer without effect that has the name of the stage, so
        `model.get_layer("c2").output` is its feature map, whatever the stage is made of.

    Raises:
        ValueError: If a function does not fit its input; the message has the stage, the position in it, the shape and
            the arithmetic. If two layers have the same name.
        TypeError: If `stages` is no dict of names, or if a stage contains or returns something else than stated above.
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
    if not isinstance(stages, Mapping) or not all(map(_is_stage_name, stages)):
        expected = 'a dict from names (strings without "/") to functions of a tensor, or lists of them'
        raise TypeError(arguments.message("build", "stages", expected, stages))
    inputs = keras.Input(input_shape, name="image")
    x = inputs
    for stage, functions in stages.items():
        steps: Sequence[Any] = functions if isinstance(functions, (list, tuple)) else [functions]
        for number, step in enumerate(steps, 1):
            where = f"build: stage {stage!r}, function {number} of {len(steps)},"
            x = _apply(step, x, where, stage if len(steps) == 1 else f"{stage}_{number}")
        x = keras.layers.Identity(name=stage)(x)
    y = x if head is None else _apply(head, x, "build: the head")
    return _model(inputs, y, name, "build: stages and head")


def attach(
    model: keras.Model, head: Callable[[keras.KerasTensor], keras.KerasTensor], name: str | None = None
) -> keras.Model:
    """`model` with a head on its output, in one flat graph that shares the layers of the model.

    A model nested in another hides its layers from inspection. Here every layer stays reachable by `get_layer`.

    Args:
        model: Functional model, such as `backbone.model`.
        head: A function of the model's output, such as `kc.heads.classification(10)`. It can use earlier maps too:
            `lambda x: kc.blocks.upsample(x, 32, skip=model.get_layer("c1").output)`.
        name: Name of the new model. None: the name of `model`.

    Returns:
        `keras.Model` from the input of `model` to the output of the head.

    Raises:
        ValueError, TypeError: As in `build`, if the head does not fit.

    Example:
        >>> from keras_cnn import heads
        >>> body = build((32, 32, 3), {"c1": keras.layers.Conv2D(8, 3)})
        >>> attach(body, heads.classification(10)).output.shape
        (None, 10)
    """
    y = _apply(head, model.output, "attach: the head")
    return _model(model.input, y, name or model.name, "attach: model and head")


def _is_stage_name(name: Any) -> bool:
    return isinstance(name, str) and name != "" and "/" not in name


def _apply(function: Block, x: keras.KerasTensor, where: str, name: str | None = None) -> keras.KerasTensor:
    """The tensor that the function returns; an error says where in the network it arose."""
    if isinstance(function, type):
        kind = function.__name__
        raise TypeError(f"{where} must be a function of a tensor. Received: the class {kind}. Use {kind}(...).")
    if not callable(function):
        raise TypeError(f"{where} must be a function of a tensor. Received: {function!r}.")
    failure = f"{where} fails on a map of shape {x.shape}."
    try:
        y = apply_step(function, x, name)
    except ValueError as error:
        raise ValueError(f"{failure} {error}") from error
    except Exception as error:  # of any kind, since the function is the user's
        error.add_note(failure)
        raise
    if not isinstance(y, keras.KerasTensor):
        raise TypeError(f"{where} must return a tensor. Received: {y!r}.")
    return y


def _model(inputs: Any, outputs: Any, name: str | None, what: str) -> keras.Model:
    """The model from inputs to outputs; an error says what names and tensors a model needs."""
    try:
        return keras.Model(inputs, outputs, name=name)
    except ValueError as error:
        raise ValueError(
            f"{what} do not make one model: each layer needs its own name (the input is 'image', each stage is a layer "
            f"with its name, heads have 'pool', 'logits', ...), and each tensor must come from the input. {error}"
        ) from error
