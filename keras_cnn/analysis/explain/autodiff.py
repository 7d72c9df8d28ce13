"""The gradient of a scalar function of one tensor, on the backend that Keras runs on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


def gradient(function: Callable[[Any], Any], x: Any) -> Any:
    """df/dx at `x`, for a function of one tensor that uses `keras.ops` and layers and returns a scalar.

    It is zero if the function does not depend on `x`.

    Raises:
        NotImplementedError: On other backends than TensorFlow and JAX.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.grad(function)(x)
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        return tape.gradient(value, x, unconnected_gradients="zero")
    raise NotImplementedError(f"gradient: the backend must be TensorFlow or JAX. Received: {backend!r}.")
