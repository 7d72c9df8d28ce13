"""Stochastic depth: whole residual branches are dropped, with one decision per example."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_cnn import arguments


@keras.saving.register_keras_serializable(package="keras_cnn")
class StochasticDepth(keras.layers.Layer):
    """Residual branch that is dropped, per example, with probability `rate` during training.

    In a residual sum y = x + branch(x) a dropped branch leaves y = x. So the network is trained at a random depth, as
    an ensemble of shallower networks. The branches that are not dropped are divided by 1 - rate:

        y = branch * b / (1 - rate),    b ~ Bernoulli(1 - rate), one per example

    so the expectation is the branch itself. Other libraries call it drop path. Differs from the paper in: one draw per
    example, not per mini-batch, and scaled during training, where the paper multiplies by 1 - rate at test time (eq. 5).

    Args:
        rate: Float in [0, 1). Probability that the branch of an example is dropped. In the paper it grows linearly with
            depth, from 0 to 0.5 (eq. 4).
        seed: Integer, or None for another sequence in every run.
        kwargs: `name`, `dtype` and `trainable`, as in every layer.
    Call arguments:
        inputs: The branch, of shape `(batch, ...)`.
        training: Whether to drop. At inference the layer is the identity.
    Output shape: the shape of `inputs`.
    Raises:
        ValueError: If `rate` is not in [0, 1).
    Example:
        >>> x = keras.ops.ones((2, 8, 8, 16))
        >>> branch = keras.layers.Conv2D(16, 3, padding="same")(x)
        >>> tuple((x + StochasticDepth(0.2)(branch)).shape)
        (2, 8, 8, 16)

    Reference: Huang et al., 2016, *Deep Networks with Stochastic Depth*, arXiv:1603.09382, eqs. 2, 4 and 5.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        remedy = "A branch that is always dropped can be left out of the network." if rate == 1 else ""
        self.rate = arguments.fraction("StochasticDepth", "rate", rate, remedy)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool | None = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        shape = (ops.shape(inputs)[0],) + (1,) * (inputs.ndim - 1)
        # Drawn in float32: half precision cannot tell rates finer than its 1 / 256 or 1 / 2048 apart.
        kept = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator) >= self.rate
        return inputs * ops.cast(ops.cast(kept, "float32") / (1 - self.rate), inputs.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
