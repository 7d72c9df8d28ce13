"""Probabilities that mean what they say: a temperature for the logits.

Guo et al., 2017, *On Calibration of Modern Neural Networks*, arXiv:1706.04599, section 4.2.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from keras_cnn import arguments

RANGE = (0.05, 20.0)
FEWEST = 50  # examples; from fewer the temperature would be mostly chance


def temperature(scores, labels) -> float:
    """The positive number T for which softmax(logits / T) has the lowest cross-entropy on examples.

    It changes no decision: the order of the classes stays. Label smoothing leaves networks too cautious (T < 1), long
    training too sure (T > 1).

    Args:
        scores: `(examples, classes)`: probabilities, each row the softmax of some logits.
        labels: `(examples,)`, class numbers; examples that the network was not trained on.

    Returns:
        T, from 0.05 to 20; 1.0 if there are fewer than 50 examples.

    Raises:
        ValueError: If the shapes do not fit together.
    """
    scores, labels = np.asarray(scores, "float64"), np.asarray(labels)
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        expected = "(examples, classes), with a label for each example"
        raise ValueError(arguments.message("temperature", "scores", expected, (scores.shape, labels.shape)))
    if len(labels) < FEWEST:
        return 1.0
    # The logits are the logarithms of the scores, but for a number for each row, which softmax does not see.
    logits, rows = np.log(np.maximum(scores, 1e-30)), np.arange(len(labels))

    def loss(logarithm):
        return -log_softmax(logits / np.exp(logarithm), axis=1)[rows, labels].mean()

    return float(np.exp(minimize_scalar(loss, bounds=np.log(RANGE), method="bounded").x))


def calibrated(scores, temperature: float) -> np.ndarray:
    """The scores that the logits divided by `temperature` give: `(examples, classes)`, each row sums to 1."""
    if temperature == 1:
        return np.asarray(scores)
    return np.exp(log_softmax(np.log(np.maximum(scores, 1e-30)) / temperature, axis=1))
