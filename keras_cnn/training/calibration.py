"""Temperature scaling: one number that divides the logits, so that predicted probabilities match observed frequencies.

Guo et al., 2017, *On Calibration of Modern Neural Networks*, arXiv:1706.04599, section 4.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax, logit

from keras_cnn import arguments

RANGE = (0.05, 20.0)
MIN_EXAMPLES = 50  # from fewer, the temperature would be mostly noise


def fit_temperature(probabilities: ArrayLike, labels: ArrayLike, min_examples: int = MIN_EXAMPLES) -> float:
    """The positive number T for which softmax(logits / T) has the lowest cross-entropy on examples.

    It changes no decision: the order of the classes stays, and so does which sigmoids exceed 1/2. Label smoothing makes
    networks underconfident (T < 1), long training overconfident (T > 1).

    Args:
        probabilities: `(examples, classes)`: each row the softmax of some logits, or each entry the sigmoid of one logit.
        labels: `(examples,)`, class indices, for softmax; `(examples, classes)` of 0 and 1 for sigmoids, which share the T
            for which sigmoid(logits / T) has the lowest cross-entropy. Take examples that the network was not trained on.
        min_examples: With fewer examples T is 1: it would be mostly noise.

    Returns:
        T, from 0.05 to 20.

    Raises:
        ValueError: If the shapes do not fit together.
    """
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    if probabilities.ndim != 2 or labels.shape not in (probabilities.shape[:1], probabilities.shape):
        expected = "(examples, classes), with one label per example, or 0 or 1 per example and class"
        shapes = (probabilities.shape, labels.shape)
        raise ValueError(arguments.message("fit_temperature", "probabilities", expected, shapes))
    if len(labels) < min_examples:
        return 1.0
    independent = labels.ndim == 2
    logits, examples = _logits(probabilities, independent), np.arange(len(labels))

    def loss(log_temperature):
        divided = logits / np.exp(log_temperature)
        if independent:
            return -log_expit(np.where(labels, divided, -divided)).mean()
        return -log_softmax(divided, axis=1)[examples, labels].mean()

    return float(np.exp(minimize_scalar(loss, bounds=np.log(RANGE), method="bounded").x))


def calibrated(probabilities: ArrayLike, temperature: float, independent: bool = False) -> np.ndarray:
    """The probabilities after division of the logits by `temperature`: `(examples, classes)`.

    Args:
        probabilities: As in `fit_temperature`.
        temperature: A positive number.
        independent: Whether each entry is the sigmoid of its own logit; otherwise each row is a softmax, and sums to 1.
    """
    probabilities = np.asarray(probabilities)
    if temperature == 1:
        return probabilities
    logits = _logits(probabilities, independent) / temperature
    return expit(logits) if independent else np.exp(log_softmax(logits, axis=1))


def _logits(probabilities, independent):
    """Of a softmax up to a constant per row, which has no effect on the softmax."""
    if independent:
        below_one = 1.0 - float(np.finfo(probabilities.dtype).epsneg)  # a probability of 1 may be this, rounded
        return logit(np.clip(probabilities.astype("float64"), 1e-30, below_one))
    return np.log(np.maximum(probabilities.astype("float64"), 1e-30))
