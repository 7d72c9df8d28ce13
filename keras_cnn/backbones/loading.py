"""From a handle to a backbone."""

from __future__ import annotations

from keras_cnn.backbones import efficientnet_lite
from keras_cnn.backbones.backbone import Backbone

EMBEDDED = {"efficientnet_lite0": efficientnet_lite.backbone}


def load_backbone(handle: str, input_shape=None, weights="default") -> Backbone:
    """A pretrained network without its head.

    Args:
        handle: "efficientnet_lite0", whose ImageNet weights are part of this package.
        input_shape: `(height, width, 3)`, or None for the size that the network was trained on.
        weights: "default" (pretrained), the path of a weight file, or None (random).

    Raises:
        ValueError: If the handle is unknown.

    Example:
        >>> [(stage.name, stage.stride, stage.channels) for stage in load_backbone("efficientnet_lite0").stages][-1]
        ('stage5', 32, 1280)
    """
    if handle not in EMBEDDED:
        known = ", ".join(repr(name) for name in EMBEDDED)
        raise ValueError(f"load_backbone: `handle` must be one of {known}. Received: handle={handle!r}.")
    return EMBEDDED[handle](input_shape=input_shape, weights=weights)
