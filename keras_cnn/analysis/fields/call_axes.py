"""Which axes of a call are channels, which are spatial, and which an `axis` argument means."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from keras_cnn.analysis.tracing import Call


def data_format(operation: keras.Operation) -> str | None:
    """The data format of a layer or operation, or of the convolution that it transposes; None if it has none."""
    return getattr(getattr(operation, "conv", operation), "data_format", None)


def channel_axis(call: Call) -> int:
    """The axis of channels of the first input."""
    return 1 if data_format(call.operation) == "channels_first" else len(call.inputs[0].shape) - 1


def spatial_axes(call: Call) -> range:
    """The axes of the first input that are neither batch nor channels."""
    rank = len(call.inputs[0].shape)
    return range(2, rank) if data_format(call.operation) == "channels_first" else range(1, rank - 1)


def axis_list(axis: int | Sequence[int] | None, rank: int) -> list[int]:
    """An `axis` argument as a list of axes, counted from the first; None is all axes."""
    if axis is None:
        return list(range(rank))
    return [one % rank for one in (axis if isinstance(axis, (tuple, list)) else (axis,))]
