"""Which channels of two networks hold the same values.

`channel_map[j, c]` says for one tensor whether channel j in the new network holds the values of channel c in the old one, when
the new network gets a repetition of the old one's input, or the reverse: booleans of shape (new channels, old channels).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

EXAMPLE_SIZE = 32  # of an example image where the model accepts any size


class IncompatibleLayerError(ValueError):
    """A layer between the input and the first convolutions cannot work with another number of channels."""

    def __init__(self, layer: Any, reason: str):
        super().__init__(
            "adapt_input_channels: each layer between the input and the first convolutions must do the same to every channel, "
            f"or normalise each channel. Received: {layer.name!r} of class {type(layer).__name__}, which {reason}."
        )


def repeating_map(new: int, old: int) -> np.ndarray:
    """The channel map of two inputs, the larger of which repeats the smaller."""
    period = min(new, old)
    return np.arange(new)[:, None] % period == np.arange(old) % period


def gather_channels(layer: Any, values: Any, channel_map: np.ndarray, axis: int = -1) -> np.ndarray:
    """Per-channel values of a layer, for the new channels."""
    values = np.asarray(keras.ops.convert_to_numpy(values))
    values = values.reshape(-1) if axis == -1 else values
    source = channel_map.argmax(1)
    for channel, same in enumerate(channel_map):
        merged = np.compress(same, values, axis)
        if not (merged == np.take(values, source[channel : channel + 1], axis)).all():
            raise IncompatibleLayerError(layer, "has different values for channels that become one")
    return np.take(values, source, axis)


def mix_channels(kernel: Any, channel_map: np.ndarray, axis: int) -> np.ndarray:
    """A kernel whose sum over the new channels equals the old sum wherever mapped channels hold the same values."""
    shares = channel_map / channel_map.sum(0)  # the copies of an old channel share its kernel equally
    kernel = np.moveaxis(keras.ops.convert_to_numpy(kernel), axis, 0)
    return np.moveaxis(np.tensordot(shares, kernel.astype("float64"), 1), 0, axis)


def example_pair(
    random: np.random.Generator, tensor: keras.KerasTensor, channel_map: np.ndarray | None, axis: int
) -> tuple[Any, Any]:
    """Random values of a tensor in the old graph, and in the new graph; one of them repeats the channels of the other."""
    shape = [1, *(EXAMPLE_SIZE if size is None else size for size in tensor.shape[1:])]
    if channel_map is not None:
        shape[axis] = min(channel_map.shape)
    old = new = random.integers(0, 256, shape) if "int" in tensor.dtype else random.normal(size=shape)
    if channel_map is not None and len(channel_map) < channel_map.shape[1]:
        old = np.take(new, channel_map.argmax(0), axis)
    elif channel_map is not None:
        new = np.take(old, channel_map.argmax(1), axis)
    return keras.ops.convert_to_tensor(old, tensor.dtype), keras.ops.convert_to_tensor(new, tensor.dtype)
