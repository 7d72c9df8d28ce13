"""The head of a classifier, solved instead of trained.

On fixed features the best linear head is a convex problem: L-BFGS finds it in seconds, with no learning rate to choose.
Solving it before fine-tuning keeps pretrained features from being spoiled by a random head (Kumar et al., 2022,
Fine-Tuning can Distort Pretrained Features, arXiv:2202.10054).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

# From strong to weak, in units where the features have variance 1.
PENALTIES = tuple(10.0**exponent for exponent in np.arange(0, -5.01, -0.5))
# Relative decrease of the loss in an iteration at which one ends: while penalties are compared, and for the solution.
ROUGHLY, EXACTLY = 1e-5, 1e-6


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
    """Multinomial logistic regression whose penalty is the best of several on validation examples.

    Minimises mean cross-entropy + penalty / 2 · ‖W‖² over W and b, on features standardised by the training examples.

    Args:
        features: `(examples, features)` of the training examples.
        labels: `(examples,)` integers from 0 to `classes` - 1.
        classes: Number of classes.
        validation_features: As `features`, for the choice of the penalty alone.
        validation_labels: As `labels`.
        penalties: Candidates, strongest first.

    Returns:
        The `LinearHead` with the lowest validation loss, searched from the middle of the candidates.
    """
    features, labels = np.asarray(features, "float32"), np.asarray(labels)
    validation_features = np.asarray(validation_features, "float32")
    mean, deviation = features.mean(0), np.maximum(features.std(0), 1e-6)
    standardised = (features - mean) / deviation

    def solve(penalty, start, tolerance):
        weights = _minimise(standardised, labels, start, penalty, tolerance)
        kernel = weights[:-1] / deviation[:, None]
        head = LinearHead(kernel.astype("float32"), (weights[-1] - mean @ kernel).astype("float32"), penalty, 0.0)
        loss = cross_entropy(head.logits(validation_features), validation_labels)
        return replace(head, loss=loss), weights

    middle = len(penalties) // 2
    found = solve(penalties[middle], np.zeros((features.shape[1] + 1, classes), "float32"), ROUGHLY)
    # The loss over the penalty has one valley: on either side of it the first rise ends the search.
    for way in (penalties[middle + 1 :], penalties[:middle][::-1]):
        for penalty in way:
            other = solve(penalty, found[1], ROUGHLY)
            if other[0].loss >= found[0].loss:
                break
            found = other
    return solve(found[0].penalty, found[1], EXACTLY)[0]


def cross_entropy(logits, labels) -> float:
    """Mean of -log softmax(logits)[label], in nats."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), np.asarray(labels)].mean())


def _minimise(features, labels, start, penalty, tolerance):
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

    result = minimize(
        loss_and_gradient, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 200, "ftol": tolerance}
    )
    return result.x.reshape(shape).astype("float32")
