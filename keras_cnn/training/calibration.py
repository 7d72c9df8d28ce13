"""Probabilities that mean what they say: a temperature for the logits.

Guo et al., 2017, *On Calibration of Modern Neural Networks*, arXiv:1706.04599, section 4.2.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax, logit

from keras_cnn import arguments

RANGE = (0.05, 20.0)
FEWEST = 50  # examples; from fewer the temperature would be mostly chance


def temperature(scores, labels) -> float:
    """The positive number T for which softmax(logits / T) has the lowest cross-entropy on examples.

    It changes no decision: the order of the classes stays, and which sigmoids are above 1/2. Label smoothing leaves networks
    too cautious (T < 1), long training too sure (T > 1).

    Args:
        scores: `(examples, classes)`: probabilities, each row the softmax of some logits, or each one the sigmoid of one.
        labels: `(examples,)`, class numbers, for softmax; `(examples, classes)` of 0 and 1 for sigmoids, whose T, one for all
            classes, is that for which sigmoid(logits / T) has the lowest. Of examples that the network was not trained on.

    Returns:
        T, from 0.05 to 20; 1.0 if there are fewer than 50 examples.

    Raises:
        ValueError: If the shapes do not fit together.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != 2 or labels.shape not in (scores.shape[:1], scores.shape):
        expected = "(examples, classes), with a label for each example, or 0 or 1 for each class of it"
        raise ValueError(arguments.message("temperature", "scores", expected, (scores.shape, labels.shape)))
    if len(labels) < FEWEST:
        return 1.0
    independent = labels.ndim == 2
    logits, rows = _logits(scores, independent), np.arange(len(labels))

    def loss(logarithm):
        divided = logits / np.exp(logarithm)
        if independent:
            return -log_expit(np.where(labels, divided, -divided)).mean()
        return -log_softmax(divided, axis=1)[rows, labels].mean()

    return float(np.exp(minimize_scalar(loss, bounds=np.log(RANGE), method="bounded").x))


def calibrated(scores, temperature: float, independent: bool = False) -> np.ndarray:
    """The scores that the logits divided by `temperature` give: `(examples, classes)`.

    Args:
        scores: As in `temperature`.
        temperature: A positive number.
        independent: Whether each score is the sigmoid of its own logit; otherwise each row is a softmax, and sums to 1.
    """
    scores = np.asarray(scores)
    if temperature == 1:
        return scores
    logits = _logits(scores, independent) / temperature
    return expit(logits) if independent else np.exp(log_softmax(logits, axis=1))


def _logits(scores, independent):
    """Of a softmax but for a number for each row, which it does not see."""
    if independent:
        below_one = 1.0 - float(np.finfo(scores.dtype).epsneg)  # what a score of 1 may have been before it was rounded
        return logit(np.clip(scores.astype("float64"), 1e-30, below_one))
    return np.log(np.maximum(scores.astype("float64"), 1e-30))
