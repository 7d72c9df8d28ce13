"""Branches side by side, concatenated."""

from __future__ import annotations

import numbers

import keras

from keras_cnn import arguments
from keras_cnn.blocks.convolution import call, channel_axis, conv_norm_act, join, pointwise
from keras_cnn.layers import MinPooling2D

POOLING = {
    "max": keras.layers.MaxPooling2D,
    "min": MinPooling2D,
    "mean": keras.layers.AveragePooling2D,
}


def inception(x, branches, *, name: str | None = None, **options):
    """Parallel branches of convolutions and pooling over the same map, concatenated along channels.

    y = [b1(x), b2(x), ...]. Branches are data, a list of lists of steps, so that any mixture can be written down. A
    step is `(what, kernel_size)` or `(what, kernel_size, strides)`, where `what` is a number of filters (convolution,
    normalisation, activation) or "max", "min" or "mean" (pooling); or it is any function of a tensor, such as a layer
    or `functools.partial(depthwise_separable, filters=64)`.

    The module of GoogLeNet with 1 x 1 reductions (Szegedy et al., 2014, arXiv:1409.4842, figure 2b; numbers of "3a",
    table 1):

        [[(64, 1)], [(96, 1), (128, 3)], [(16, 1), (32, 5)], [("max", 3), (32, 1)]]

    A factorised branch, 1 x n and n x 1 for n x n (Szegedy et al., 2015, arXiv:1512.00567, figure 6, n = 7):

        [(128, 1), (128, (1, 7)), (192, (7, 1))]

    Differs from the papers in: GoogLeNet had no batch normalisation (`norm=None` gives its parameters); mean pooling
    does not count padded cells.

    Args:
        x: `(batch, height, width, channels)`.
        branches: At least one list of steps; an empty one passes `x` on. Strides of a branch multiply up to the same
            in all.
        name: Prefix of the layers: `name_1_1_conv` is the first step of the first branch; `name_concat`.
        options: As in `conv_norm_act`. `padding` ("same" unless given) is also that of pooling, which takes no numbers;
            with `padding_mode`, `groups` and `dilation_rate` it does not go to 1 x 1 convolutions.

    Returns:
        `(batch, new_height, new_width, sum of the branches' channels)`. Parameters: those of the convolutions.

    Raises:
        ValueError: If a branch or step cannot be read, or if maps of different sizes meet.
    """
    ends = []
    for number, steps in enumerate(branches, 1):
        if not isinstance(steps, (tuple, list)) or _is_step(steps):
            raise ValueError(
                "inception: a branch must be a list of steps, such as [(96, 1), (128, 3)]. "
                f"Received: {steps!r} as branch {number}."
            )
        y = x
        for place, step in enumerate(steps, 1):
            y = _step(y, step, join(name, f"{number}_{place}"), options)
        ends.append(y)
    shapes = [tuple(y.shape) for y in ends]
    channels = channel_axis() % len(x.shape)
    if len({shape[:channels] + shape[channels + 1 :] for shape in shapes}) != 1:
        raise ValueError(
            "inception: the branches must end in maps of one size. "
            f"Received: {', '.join(map(str, shapes)) or 'no branches'}. "
            "Let the strides of each branch multiply up to the same, and pad all of them alike."
        )
    return keras.layers.Concatenate(axis=channel_axis(), name=join(name, "concat"))(ends) if len(ends) > 1 else ends[0]


def _step(x, step, name, options):
    if callable(step):
        return call(step, x, name)
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
        return call(POOLING[what](kernel_size, strides, padding, name=join(name, what)), x)
    if arguments.per_axis("inception", "kernel_size", kernel_size, 2) == (1, 1):
        options = pointwise(options)
    return conv_norm_act(x, what, kernel_size, strides, name=name, **options)


def _is_step(step):
    """Whether `step` is filters or a kind of pooling, a kernel size and perhaps strides."""
    if not isinstance(step, (tuple, list)) or len(step) not in (2, 3):
        return False
    return isinstance(step[0], numbers.Integral) or step[0] in tuple(POOLING)
