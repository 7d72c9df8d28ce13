"""Random weights for benchmarks of networks: the initial ones of batch norms, zeros and ones, would be folded away."""

import keras
import numpy as np


def randomise(model: keras.Model) -> keras.Model:
    """Give biases, and the scale, shift and statistics of batch norms, random values; returns the model."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        if weight.path.endswith(("bias", "beta", "moving_mean")):
            weight.assign(random.normal(0, 0.1, weight.shape))
        elif weight.path.endswith(("gamma", "moving_variance")):
            weight.assign(random.uniform(0.8, 1.2, weight.shape))
    return model
