"""Stochastic depth: whole residual branches dropped, one decision an example."""

from __future__ import annotations

import keras
from keras import ops

from keras_cnn import arguments


@keras.saving.register_keras_serializable(package="keras_cnn")
class StochasticDepth(keras.layers.Layer):
    """Residual branch that is dropped, per example, with probability `rate` during training.

    In a residual sum y = x + branch(x) a dropped branch leaves y = x, so that the network is trained at a random depth,
    as an ensemble of shallower networks. What is kept is divided by 1 - rate:

        y = branch * b / (1 - rate),    b ~ Bernoulli(1 - rate), one for each example

    so that the expectation is the branch itself. Differs from the paper in: one draw an example, not a mini-batch, and
    scaled during training, where the paper multiplies by 1 - rate at test time (eq. 5).

    Args:
        rate: Float in [0, 1). Probability that the branch of an example is dropped. The paper lets it grow linearly
            with depth, from 0 to 0.5 (eq. 4).
        seed: Integer, or None for another sequence each time.
    Call arguments:
        inputs: The branch, of shape `(batch, ...)`.
        training: Whether to drop; at inference the layer is the identity.
    Output shape: that of `inputs`.
    Raises:
        ValueError: If `rate` is not in [0, 1).
    Example:
        >>> x = keras.ops.ones((2, 8, 8, 16))
        >>> branch = keras.layers.Conv2D(16, 3, padding="same")(x)
        >>> tuple((x + StochasticDepth(0.2)(branch)).shape)
        (2, 8, 8, 16)

    Reference: Huang et al., 2016, *Deep Networks with Stochastic Depth*, arXiv:1603.09382, eqs. 2, 4 and 5.
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        remedy = "A branch that is always dropped can be left out of the network." if rate == 1 else ""
        self.rate = arguments.fraction("StochasticDepth", "rate", rate, remedy)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        shape = (ops.shape(inputs)[0],) + (1,) * (inputs.ndim - 1)
        # Drawn in float32: half precision cannot tell rates finer than its 1 / 256 or 1 / 2048 apart.
        kept = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator) >= self.rate
        return inputs * ops.cast(ops.cast(kept, "float32") / (1 - self.rate), inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
