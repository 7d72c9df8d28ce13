"""Mixed precision for a time: layers compute in 16 bits with weights in float32, and compute in float32 again afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from keras_cnn import arguments
from keras_cnn.keras_internals import sublayers

POLICIES = ("mixed_bfloat16", "mixed_float16")


@contextmanager
def mixed_precision(model: keras.Model, policy: str = "mixed_bfloat16") -> Iterator[None]:
    """Within the `with` block the layers of `model` compute as under a mixed precision policy of Keras.

    A network that is built under such a policy is tested and exported in 16 bits too; here the layers are as before at the
    end of the block. Keras keeps what it has traced: compile within the block, and again after it, before `evaluate` or
    `predict`. Layers of another policy than "float32", and those that cast their inputs themselves, such as
    `kc.layers.HubLayer`, are left as they are.

    Micikevicius et al., 2018, *Mixed Precision Training*, arXiv:1710.03740.

    Args:
        model: A part of the model that is trained, usually its backbone: a softmax and a loss need float32.
        policy: "mixed_bfloat16", which is faster on recent GPUs and needs no loss scaling; or "mixed_float16", with
            a `keras.optimizers.LossScaleOptimizer`.

    Raises:
        ValueError: If `policy` is another.

    Example:
        >>> backbone = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> with mixed_precision(backbone):
        ...     print(backbone(keras.ops.ones((1, 2))).dtype.name, backbone.layers[0].kernel.dtype)
        bfloat16 float32
        >>> backbone(keras.ops.ones((1, 2))).dtype.name
        'float32'
    """
    arguments.one_of("mixed_precision", "policy", policy, POLICIES)
    layers = [layer for layer in sublayers(model, include_self=False) if _benefits(layer)]
    before = [layer.dtype_policy for layer in layers]
    try:
        for layer in layers:
            layer.dtype_policy = policy
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            layer.dtype_policy = own


def _benefits(layer):
    return not isinstance(layer, keras.Model) and layer.autocast and layer.dtype_policy.name == "float32"
