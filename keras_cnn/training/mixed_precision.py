"""Mixed precision for a time: layers train in 16 bits on weights in float32, and compute in float32 again afterwards."""

from __future__ import annotations

from contextlib import contextmanager

import keras

from keras_cnn import arguments

POLICIES = ("mixed_bfloat16", "mixed_float16")


@contextmanager
def mixed_precision(model: keras.Model, policy: str = "mixed_bfloat16"):
    """Within the `with` block the layers of `model` compute as under a mixed precision policy of Keras.

    Keras gives a layer its policy for life, so that a network that was trained in 16 bits is exported and tested in 16 bits
    too. Here the policies of before come back at the end of the block. For a model that is compiled and run first within the
    block: functions that Keras has traced before stay as they are.

    Micikevicius et al., 2018, *Mixed Precision Training*, arXiv:1710.03740.

    Args:
        model: A part of the model that is trained, usually its backbone: a softmax and a loss want float32.
        policy: "mixed_bfloat16", which recent GPUs gain from and which needs no scaling of the loss; or "mixed_float16", with
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
    layers = [layer for layer in model._flatten_layers(include_self=False) if not isinstance(layer, keras.Model)]
    before = [layer.dtype_policy for layer in layers]
    try:
        for layer in layers:
            layer.dtype_policy = policy
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            layer.dtype_policy = own
