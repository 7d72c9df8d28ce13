"""The arrays of EfficientNet-Lite0, as `keras_cnn` stores them, by the names that other libraries have for them.

Both timm and KerasHub count seven stacks of blocks and the blocks within a stack; `keras_cnn` counts the sixteen blocks.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

BLOCKS_PER_STACK = (1, 2, 2, 3, 3, 4, 1)
POSITIONS = [(stack, index) for stack, blocks in enumerate(BLOCKS_PER_STACK) for index in range(blocks)]
# What timm calls the layers of a block: without an expansion, as in the first block, and with one.
SEPARABLE = {"depthwise_conv": "conv_dw", "depthwise_bn": "bn1", "project_conv": "conv_pw", "project_bn": "bn2"}
INVERTED = {
    "expand_conv": "conv_pw",
    "expand_bn": "bn1",
    "depthwise_conv": "conv_dw",
    "depthwise_bn": "bn2",
    "project_conv": "conv_pwl",
    "project_bn": "bn3",
}
ENDS = {"stem_conv": "conv_stem", "stem_bn": "bn1", "top_conv": "conv_head", "top_bn": "bn2"}
WEIGHTS = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
IN_KERAS_HUB = {"depthwise_conv": "dwconv", "depthwise_bn": "dwconv_bn", "project_conv": "project"}


def for_timm(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state of timm's `tf_efficientnet_lite0` without its classifier, float32.

    Kernels become (out, in, height, width); depthwise ones (channels, 1, height, width).
    """
    state = {}
    for name, array in _network(arrays):
        layer, weight = name.split("/")
        axes = (2, 3, 0, 1) if layer.endswith("depthwise_conv") else (3, 2, 0, 1)
        array = array.transpose(axes) if weight == "kernel" else array
        state[f"{_in_timm(layer)}.{WEIGHTS[weight]}"] = np.ascontiguousarray(array, "float32")
    return state


def for_keras_hub(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights of KerasHub's `EfficientNetBackbone` by `layer/weight`, float32."""
    found = {}
    for name, array in _network(arrays):
        layer, weight = name.split("/")
        found[f"{_in_keras_hub(layer)}/{weight}"] = array.astype("float32")
    return found


def _network(arrays):
    return [(name, arrays[name]) for name in arrays if not name.startswith("logits/")]


def _split(layer):
    """Stack, index in the stack, and the rest of the name of a layer in a block."""
    block, _, part = layer.partition("_")
    return *POSITIONS[int(block.removeprefix("block")) - 1], part


def _in_timm(layer):
    if layer in ENDS:
        return ENDS[layer]
    stack, index, part = _split(layer)
    return f"blocks.{stack}.{index}.{(INVERTED if stack else SEPARABLE)[part]}"


def _in_keras_hub(layer):
    if layer in ENDS:
        return layer
    stack, index, part = _split(layer)
    return f"block{stack + 1}{'abcd'[index]}_{IN_KERAS_HUB.get(part, part)}"
