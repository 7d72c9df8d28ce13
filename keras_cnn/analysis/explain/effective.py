"""The effective receptive field: how much each pixel moves a unit, not only whether it can.

Luo et al., 2016, *Understanding the Effective Receptive Field in Deep Convolutional Neural Networks*, arXiv:1701.04128.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_cnn import arguments
from keras_cnn.analysis import hooks
from keras_cnn.analysis.explain import autodiff

BATCH = 16


def effective_field(
    model: keras.Model, images: ArrayLike, output: str | None = None, unit: Sequence[int] | None = None
) -> np.ndarray:
    """Magnitude of the gradient of one unit with respect to each pixel, averaged over images.

    With y the value of the unit and x_ijc the input, the field at (i, j) is the mean of |∂y / ∂x_ijc| over the images
    and the channels c, divided by its maximum. It is zero outside the theoretical receptive field, and inside it
    usually falls off like a Gaussian: in the paper's analysis of n equal layers the theoretical field grows like n and
    the effective one like sqrt(n).

    Args:
        model: Any built `keras.Model` of one image input, as for `grad_cam`.
        images: `(number, height, width, channels)`. More give a smoother field: after a ReLU each image opens other
            paths.
        output: Name of the layer that has the unit, "backbone/conv1" or just "conv1". None: the last with more than one
            position.
        unit: `(row, column)` or `(row, column, channel)` in the feature map of that layer. Without a channel it
            is the sum of all of them. None: the position in the middle.

    Returns:
        float32 `(height, width)` in 0..1; all 0 if nothing moves the unit.

    Raises:
        ValueError: If the images, the layer or the unit does not fit.

    Example: a convolution of 3 x 3 sees 3 x 3 pixels.
        >>> model = keras.Sequential([keras.Input((9, 9, 1)), keras.layers.Conv2D(1, 3, kernel_initializer="ones")])
        >>> int((effective_field(model, np.ones((1, 9, 9, 1))) > 0).sum())
        9
    """
    images = ops.convert_to_tensor(images, "float32")
    if images.ndim != 4 or not len(images):
        expected = "a batch of at least one image, of 4 axes"
        raise ValueError(arguments.message("effective_field", "images", expected, tuple(images.shape)))

    def signal(images):
        _, calls = hooks.capture_outputs(model, images)
        values = hooks.find_feature_map("effective_field", "output", output, model, calls).output
        return ops.sum(values[_index_of(unit, values)])

    starts = range(0, len(images), BATCH)
    gradients = [ops.convert_to_numpy(autodiff.gradient(signal, images[start : start + BATCH])) for start in starts]
    field = np.abs(np.concatenate(gradients)).mean(axis=(0, _channel_axis()))
    return field / field.max() if field.max() > 0 else field


def _index_of(unit, values):
    """The index of the unit, in all images, into a feature map."""
    sizes = list(values.shape[1:])
    sizes.append(sizes.pop(_channel_axis() - 1))  # height, width, channels
    unit = (sizes[0] // 2, sizes[1] // 2) if unit is None else unit
    fits = isinstance(unit, (tuple, list)) and len(unit) in (2, 3) and all(map(_is_index, unit, sizes))
    if not fits:
        expected = f"(row, column) or (row, column, channel) within {tuple(sizes)}"
        raise ValueError(arguments.message("effective_field", "unit", expected, unit))
    position = unit[:2]
    channel = unit[2] if len(unit) == 3 else slice(None)
    return (slice(None), channel, *position) if _channel_axis() == 1 else (slice(None), *position, channel)


def _is_index(index, size):
    return isinstance(index, numbers.Integral) and not isinstance(index, bool) and 0 <= index < size


def _channel_axis():
    return 1 if keras.config.image_data_format() == "channels_first" else 3
