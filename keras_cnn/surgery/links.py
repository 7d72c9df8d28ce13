"""Which channels of two networks hold the same.

`links[j, c]` says at one point of both whether channel j of the new network holds what channel c of the old one holds, when the
one is fed a repetition of the other's input: booleans of shape (new channels, old channels).
"""

from __future__ import annotations

import keras
import numpy as np

SIZE = 32  # of an example image where the model leaves it open


class UnfitError(ValueError):
    """The layers at the input are not made for another number of channels."""

    def __init__(self, layer, reason):
        super().__init__(
            "adapt_input_channels: between the input and the first convolutions must come layers that do the same to each "
            f"channel, or normalise each. Received: {layer.name!r} of class {type(layer).__name__}, which {reason}."
        )


def repetition(new, old):
    """Links between two inputs of which the larger repeats the smaller."""
    period = min(new, old)
    return np.arange(new)[:, None] % period == np.arange(old) % period


def picked(layer, values, links, axis=-1):
    """Values by channel of a layer, for the new channels."""
    values = np.asarray(keras.ops.convert_to_numpy(values))
    values = values.reshape(-1) if axis == -1 else values
    source = links.argmax(1)
    for channel, linked in enumerate(links):
        of_linked = np.compress(linked, values, axis)
        if not (of_linked == np.take(values, source[channel : channel + 1], axis)).all():
            raise UnfitError(layer, "has different values for channels that become one")
    return np.take(values, source, axis)


def mixed(kernel, links, axis):
    """A kernel whose sum over the new channels is that over the old ones, wherever linked channels hold the same."""
    shares = links / links.sum(0)  # each old channel's kernel is shared out among its copies
    kernel = np.moveaxis(keras.ops.convert_to_numpy(kernel), axis, 0)
    return np.moveaxis(np.tensordot(shares, kernel.astype("float64"), 1), 0, axis)


def examples(random, tensor, links, axis):
    """A random input of the old graph, and the one of the new graph that repeats it or is repeated by it."""
    shape = [1, *(SIZE if size is None else size for size in tensor.shape[1:])]
    if links is not None:
        shape[axis] = min(links.shape)
    old = new = random.integers(0, 256, shape) if "int" in tensor.dtype else random.normal(size=shape)
    if links is not None and len(links) < links.shape[1]:
        old = np.take(new, links.argmax(0), axis)
    elif links is not None:
        new = np.take(old, links.argmax(1), axis)
    return tuple(keras.ops.convert_to_tensor(x, tensor.dtype) for x in (old, new))
