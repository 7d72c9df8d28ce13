"""The head of a classifier, solved instead of trained.

On fixed features the best linear head is a convex problem: L-BFGS finds it in seconds, with no learning rate to choose.
Solving it before fine-tuning keeps pretrained features from being spoiled by a random head (Kumar et al., 2022,
Fine-Tuning can Distort Pretrained Features, arXiv:2202.10054).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

# From strong to weak, in units where the features have variance 1: each solution is the start of the next.
PENALTIES = tuple(10.0**exponent for exponent in np.arange(0, -5.01, -0.5))
# The loss over the penalty has one valley but for noise; behind it the weaker penalties cost most of the time.
PATIENCE = 2


@dataclass(frozen=True)
class LinearHead:
    """A solved head: `scores = softmax(features @ kernel + bias)`.

    Attributes:
        kernel: `(features, classes)`, float32, for features as they came (the standardisation is folded in).
        bias: `(classes,)`, float32.
        penalty: The chosen L2 penalty.
        loss: Mean cross-entropy on the examples that it was chosen by, in nats.
    """

    kernel: np.ndarray
    bias: np.ndarray
    penalty: float
    loss: float

    def logits(self, features: np.ndarray) -> np.ndarray:
        """`(examples, features)` -> `(examples, classes)`."""
        return features @ self.kernel + self.bias


def solve_head(features, labels, classes, validation_features, validation_labels, penalties=PENALTIES) -> LinearHead:
    """Multinomial logistic regression whose penalty is the best of a sweep on validation examples.

    Minimises mean cross-entropy + penalty / 2 · ‖W‖² over W and b, on features standardised by the training examples.

    Args:
        features: `(examples, features)` of the training examples.
        labels: `(examples,)` integers from 0 to `classes` - 1.
        classes: Number of classes.
        validation_features: As `features`, for the choice of the penalty alone.
        validation_labels: As `labels`.
        penalties: Candidates, strongest first.

    Returns:
        The `LinearHead` with the lowest validation loss; the sweep ends when two penalties in a row are worse.
    """
    features = np.asarray(features, "float32")
    mean, deviation = features.mean(0), np.maximum(features.std(0), 1e-6)
    standardised = (features - mean) / deviation
    weights = np.zeros((features.shape[1] + 1, classes), "float32")
    best, worse_in_a_row = None, 0
    for penalty in penalties:
        weights = _minimise(standardised, np.asarray(labels), weights, penalty)
        kernel = weights[:-1] / deviation[:, None]
        bias = weights[-1] - mean @ kernel
        head = LinearHead(kernel.astype("float32"), bias.astype("float32"), penalty, 0.0)
        loss = cross_entropy(head.logits(np.asarray(validation_features, "float32")), validation_labels)
        if best is None or loss < best.loss:
            best, worse_in_a_row = LinearHead(head.kernel, head.bias, penalty, loss), 0
        else:
            worse_in_a_row += 1
        if worse_in_a_row == PATIENCE:
            break
    return best


def cross_entropy(logits, labels) -> float:
    """Mean of -log softmax(logits)[label], in nats."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), np.asarray(labels)].mean())


def _minimise(features, labels, start, penalty):
    shape = start.shape
    truth = np.zeros((len(labels), shape[1]), "float32")
    truth[np.arange(len(labels)), labels] = 1

    def loss_and_gradient(flat):
        weights = flat.reshape(shape).astype("float32")
        log_scores = log_softmax(features @ weights[:-1] + weights[-1], axis=1)
        residual = (np.exp(log_scores) - truth) / len(labels)
        gradient = np.vstack([features.T @ residual + penalty * weights[:-1], residual.sum(0)])
        loss = -(truth * log_scores).sum() / len(labels) + penalty / 2 * (weights[:-1] ** 2).sum()
        return float(loss), gradient.ravel().astype("float64")

    result = minimize(loss_and_gradient, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return result.x.reshape(shape).astype("float32")
