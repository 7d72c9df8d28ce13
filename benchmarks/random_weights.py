"""Weights that a benchmark of networks needs: fresh ones, zeros and ones, flatter whoever folds them away."""

import numpy as np


def randomise(model):
    """Give biases, and the scale, shift and statistics of batch norms, random values; returns the model."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        if weight.path.endswith(("bias", "beta", "moving_mean")):
            weight.assign(random.normal(0, 0.1, weight.shape))
        elif weight.path.endswith(("gamma", "moving_variance")):
            weight.assign(random.uniform(0.8, 1.2, weight.shape))
    return model
