"""Parallel branches, concatenated."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import keras

from keras_cnn import arguments
from keras_cnn.blocks.convolution import conv_norm_act
from keras_cnn.blocks.plumbing import (
    BlockOptions,
    apply_step,
    channel_axis,
    check_options,
    layer_name,
    pointwise_options,
)
from keras_cnn.layers import MinPooling2D

POOLING = {
    "max": keras.layers.MaxPooling2D,
    "min": MinPooling2D,
    "mean": keras.layers.AveragePooling2D,
}


def inception(
    x: keras.KerasTensor,
    branches: Sequence[Sequence[tuple | Callable[..., keras.KerasTensor]]],
    *,
    name: str | None = None,
    **options: Unpack[BlockOptions],
) -> keras.KerasTensor:
    """Parallel branches of convolutions and pooling over the same map, concatenated along channels.

    y = [b1(x), b2(x), ...]. Branches are data, a list of lists of steps, so any mixture can be written down. A step is
    `(what, kernel_size)` or `(what, kernel_size, strides)`, where `what` is a number of filters (convolution,
    normalisation, activation) or "max", "min" or "mean" (pooling). Or it is any function of a tensor, such as a layer
    or `functools.partial(depthwise_separable, filters=64)`.

    The module of GoogLeNet with 1 x 1 reductions (Szegedy et al., 2014, arXiv:1409.4842, figure 2b; filters of "3a",
    table 1):

        [[(64, 1)], [(96, 1), (128, 3)], [(16, 1), (32, 5)], [("max", 3), (32, 1)]]

    A factorised branch, 1 x n and n x 1 for n x n (Szegedy et al., 2015, arXiv:1512.00567, figure 6, n = 7):

        [(128, 1), (128, (1, 7)), (192, (7, 1))]

    Differs from the papers in: GoogLeNet had no batch normalisation (`norm=None` gives its parameters); mean pooling
    does not count padded cells.

    Args:
        x: `(batch, height, width, channels)`.
        branches: At least one list of steps; an empty one passes `x` on. The product of the strides is the same in all
            branches.
        name: Prefix of the layers: `name_1_1_conv` is the first step of the first branch; `name_concat`.
        options: `norm`, `activation` and further options as in `conv_norm_act`. `padding` ("same" by default) also
            applies to pooling, which takes no numbers. `padding`, `padding_mode`, `groups` and `dilation_rate` do not
            apply to 1 x 1 convolutions.

    Returns:
        `(batch, new_height, new_width, sum of the branches' channels)`. Parameters: those of the convolutions.

    Raises:
        ValueError: If a branch or step is not one of these; if the branches end in maps of different sizes; if an
            option is unknown.

    Example:
        >>> x = keras.Input((28, 28, 192))
        >>> inception(x, [[(64, 1)], [(96, 1), (128, 3)], [(16, 1), (32, 5)], [("max", 3), (32, 1)]]).shape
        (None, 28, 28, 256)
    """
    check_options(inception, options, BlockOptions)
    ends = []
    for number, steps in enumerate(branches, 1):
        if not isinstance(steps, (tuple, list)) or _is_step(steps):
            raise ValueError(
                "inception: a branch must be a list of steps, such as [(96, 1), (128, 3)]. "
                f"Received: {steps!r} as branch {number}."
            )
        y = x
        for index, step in enumerate(steps, 1):
            y = _apply(step, y, layer_name(name, f"{number}_{index}"), {**options})
        ends.append(y)
    _check_ends(ends)
    axis = channel_axis()
    return keras.layers.Concatenate(axis=axis, name=layer_name(name, "concat"))(ends) if len(ends) > 1 else ends[0]


def _check_ends(ends: list[keras.KerasTensor]) -> None:
    """ValueError unless the maps differ in their channels only."""
    shapes = [tuple(y.shape) for y in ends]
    sizes = {shape[1:-1] if channel_axis() == -1 else shape[2:] for shape in shapes}
    if len(sizes) != 1:
        raise ValueError(
            "inception: the branches must end in maps of one size. "
            f"Received: {', '.join(map(str, shapes)) or 'no branches'}. "
            "Let the strides of each branch multiply up to the same, and pad all of them alike."
        )


def _apply(step: Any, x: keras.KerasTensor, name: str | None, options: dict[str, Any]) -> keras.KerasTensor:
    if callable(step):
        return apply_step(step, x, name)
    if not _is_step(step):
        raise ValueError(
            "inception: a step must be (filters, kernel_size), (filters, kernel_size, strides), the same with 'max', "
            f"'min' or 'mean' for filters, or a function of a tensor. Received: {step!r}."
        )
    what, kernel_size, strides = (*step, 1)[:3]
    if what in POOLING:
        padding = options.get("padding", "same")
        if padding not in ("same", "valid"):
            expected = "'same' or 'valid' where a branch pools"
            raise ValueError(arguments.message("inception", "padding", expected, padding))
        return apply_step(POOLING[what](kernel_size, strides, padding, name=layer_name(name, what)), x)
    if arguments.pair("inception", "kernel_size", kernel_size) == (1, 1):
        options = pointwise_options(options)
    return conv_norm_act(x, what, kernel_size, strides, name=name, **options)


def _is_step(step: Any) -> bool:
    """Whether `step` is filters or a kind of pooling, a kernel size and optionally strides."""
    if not isinstance(step, (tuple, list)) or len(step) not in (2, 3):
        return False
    return isinstance(step[0], numbers.Integral) or step[0] in tuple(POOLING)
