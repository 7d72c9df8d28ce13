"""Grad-CAM: which positions of an image are evidence for a class.

Selvaraju et al., 2017, *Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization*,
arXiv:1610.02391.
"""

from __future__ import annotations

from contextlib import contextmanager

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_cnn import arguments
from keras_cnn.analysis import hooks
from keras_cnn.analysis.explain import autodiff

OUTPUT_ACTIVATIONS = (keras.activations.softmax, keras.activations.log_softmax, keras.activations.sigmoid)


def grad_cam(model: keras.Model, image: ArrayLike, class_index: int, layer: str | None = None) -> np.ndarray:
    """Where in `image` the evidence for a class is.

    With A^k channel k of a feature map, y the logit of the class and Z the number of positions (eq. 1 and 2):

        weight_k = 1 / Z · Σ_ij ∂y / ∂A^k_ij        map = max(Σ_k weight_k A^k, 0)

    resized to the image (bilinear) and divided by its maximum. y is what comes before a softmax or sigmoid if the last layer
    is one or has one as its activation; otherwise it is the output of the model.

    Args:
        model: Any built `keras.Model` of one image input that gives `(batch, classes)`: flat or with a backbone nested
            in it, functional or subclassed, new or read from a file.
        image: `(height, width, channels)`, as the model takes it (the networks of this package: RGB 0..255).
        class_index: Which output.
        layer: Name of the layer whose feature map it is, "backbone/conv1" or just "conv1". None: the last with more than
            one position, which is the coarsest and the closest to the classes.

    Returns:
        float32 `(height, width)` in 0..1: 0 is no evidence for the class, 1 the most in this image; all 0 if there is
        none.

    Raises:
        ValueError: If the model, image, class or layer does not fit.

    Example:
        >>> model = keras.Sequential(
        ...     [
        ...         keras.Input((32, 48, 3)),
        ...         keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
        ...         keras.layers.GlobalAveragePooling2D(),
        ...         keras.layers.Dense(10, activation="softmax"),
        ...     ]
        ... )
        >>> grad_cam(model, np.ones((32, 48, 3)), class_index=7).shape
        (32, 48)
    """
    image = ops.convert_to_tensor(image, "float32")
    if image.ndim != 3:
        expected = "one image without the batch, of 3 axes"
        raise ValueError(arguments.message("grad_cam", "image", expected, tuple(image.shape)))
    image = image[None]
    output, calls = hooks.capture_outputs(model, image)
    _check_class(model, output, class_index)
    call = hooks.find_feature_map("grad_cam", "layer", layer, model, calls)
    with _without_output_activation(output, calls):
        gradients = autodiff.gradient(
            lambda value: hooks.run_with_output(model, image, call, value)[0, class_index], call.output
        )
    return _resize_to(image, _weighted_sum(call.output, gradients))


@contextmanager
def _without_output_activation(output, calls):
    """During the `with` block the layer of the output `output` does not apply its softmax or sigmoid."""
    last = next((call.layer for call in calls if call.output is output), None)
    if isinstance(last, keras.layers.Softmax):
        with hooks.patched(last, "call", lambda inputs, mask=None: inputs):
            yield
    elif getattr(last, "activation", None) in OUTPUT_ACTIVATIONS:
        with hooks.patched(last, "activation", keras.activations.linear):
            yield
    else:
        yield


def _weighted_sum(feature_map, gradients):
    """max(Σ_k weight_k A^k, 0), `(height, width)`."""
    axis = -3 if keras.config.image_data_format() == "channels_first" else -1
    arrays = (ops.convert_to_numpy(array)[0].astype("float32") for array in (feature_map, gradients))
    feature_map, gradients = (np.moveaxis(array, axis, -1) for array in arrays)
    return np.maximum(feature_map @ gradients.mean(axis=(0, 1)), 0)


def _resize_to(image, cam):
    first = keras.config.image_data_format() == "channels_first"
    size = image.shape[2:] if first else image.shape[1:3]
    cam = ops.image.resize(cam[..., None], size, "bilinear", data_format="channels_last")
    cam = ops.convert_to_numpy(cam)[..., 0]
    return cam / cam.max() if cam.max() > 0 else cam


def _check_class(model, output, class_index):
    if len(getattr(output, "shape", ())) != 2:
        remedy = "Pass the part of it that classifies."
        raise ValueError(arguments.message("grad_cam", "model", "one that gives (batch, classes)", model, remedy))
    if arguments.integer("grad_cam", "class_index", class_index, 0) >= output.shape[1]:
        expected = f"below the number of classes ({output.shape[1]})"
        raise ValueError(arguments.message("grad_cam", "class_index", expected, class_index))
