"""The head of a classifier, solved instead of trained.

On fixed features the best linear head is a convex problem: L-BFGS finds it in seconds, with no learning rate to choose.
Solving it before fine-tuning keeps pretrained features from being spoiled by a random head (Kumar et al., 2022,
Fine-Tuning can Distort Pretrained Features, arXiv:2202.10054).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, log_expit, log_softmax

from keras_cnn import arguments
from keras_cnn.training.lbfgs import minimise

# From strong to weak, in units where the features have variance 1: from next to no knowledge of the features to all of it.
PENALTIES = tuple(10.0**exponent for exponent in np.arange(2, -5.01, -0.5))
# Relative decrease of the loss in an iteration at which one ends: while penalties are compared, and for the solution.
ROUGHLY, EXACTLY = 1e-5, 1e-6


@dataclass(frozen=True)
class LinearHead:
    """A solved head: `scores = softmax(features @ kernel + bias)`, or `sigmoid` of that for several labels an example.

    Attributes:
        kernel: `(features, classes)`, float32, for features as they came (the standardisation is folded in).
        bias: `(classes,)`, float32.
        penalty: The chosen L2 penalty.
        loss: Mean `cross_entropy` on the examples that it was chosen by, in nats.
    """

    kernel: np.ndarray
    bias: np.ndarray
    penalty: float
    loss: float

    def logits(self, features: np.ndarray) -> np.ndarray:
        """`(examples, features)` -> `(examples, classes)`."""
        return features @ self.kernel + self.bias


def solve_head(
    features, labels, classes, validation_features, validation_labels, penalties=PENALTIES, start=None
) -> LinearHead:
    """Logistic regression whose penalty is the best of several on validation examples.

    Minimises mean cross-entropy + penalty / 2 · ‖W‖² over W and b, on features standardised by the training examples. With
    class numbers it is multinomial. With rows of 0 and 1, several labels an example, the cross-entropy is the sum over the
    classes of each one's own: so each class has the binary regression that it would have without the others, with the one
    penalty that is best for all.

    Args:
        features: `(examples, features)` of the training examples.
        labels: `(examples,)` integers from 0 to `classes` - 1, for softmax; or `(examples, classes)` of 0 and 1, for sigmoids.
            A class that no example has gets a score near 0.
        classes: Number of classes.
        validation_features: As `features`, for the choice of the penalty alone.
        validation_labels: As `labels`.
        penalties: Candidates, strongest first.
        start: A `LinearHead` to begin at, such as one solved on a part of the examples. None: zeros.

    Returns:
        The `LinearHead` with the lowest validation loss, searched from the middle of the candidates.

    Raises:
        ValueError: If labels are neither of the two, or features are not finite.
    """
    features, validation_features = np.asarray(features, "float32"), np.asarray(validation_features, "float32")
    labels, validation_labels = _checked(labels, classes), _checked(validation_labels, classes)
    _check_finite(features)
    mean, deviation = features.mean(0), np.maximum(features.std(0), 1e-6)
    standardised = (features - mean) / deviation

    def solve(penalty, start, tolerance):
        weights = _minimise(standardised, labels, start, penalty, tolerance)
        kernel = weights[:-1] / deviation[:, None]
        head = LinearHead(kernel.astype("float32"), (weights[-1] - mean @ kernel).astype("float32"), penalty, 0.0)
        loss = cross_entropy(head.logits(validation_features), validation_labels)
        return replace(head, loss=loss), weights

    weights = np.zeros((features.shape[1] + 1, classes), "float32")
    if start is not None:
        weights = np.vstack([start.kernel * deviation[:, None], start.bias + mean @ start.kernel])
    middle = len(penalties) // 2
    found = solve(penalties[middle], weights, ROUGHLY)
    # The loss over the penalty has one valley: on either side of it the first rise ends the search.
    for way in (penalties[middle + 1 :], penalties[:middle][::-1]):
        for penalty in way:
            other = solve(penalty, found[1], ROUGHLY)
            if other[0].loss >= found[0].loss:
                break
            found = other
    return solve(found[0].penalty, found[1], EXACTLY)[0]


def cross_entropy(logits, labels) -> float:
    """The mean over examples of -log of the likelihood of their labels, in nats.

    Args:
        logits: `(examples, classes)`.
        labels: `(examples,)` class numbers: -log softmax(logits)[label]. Or `(examples, classes)` of 0 and 1: the sum over
            classes of -log sigmoid(logit) where there is a 1, of -log(1 - sigmoid(logit)) where there is a 0.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2:
        return float(-log_expit(np.where(labels, logits, np.negative(logits))).sum(1).mean())
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def _checked(labels, classes):
    labels = np.asarray(labels)
    if labels.ndim != 1 and labels.shape[1:] != (classes,):
        expected = f"(examples,) class numbers, or (examples, {classes}) of 0 and 1"
        raise ValueError(arguments.message("solve_head", "labels", expected, labels.shape))
    return labels


def _check_finite(features):
    spoiled = np.count_nonzero(~np.isfinite(features).all(1))
    if spoiled:
        remedy = (
            "Look for examples or weights that are not finite, or too large for the precision they were computed in."
        )
        received = f"others in {spoiled} of {len(features)} examples"
        raise ValueError(f"solve_head: `features` must be finite numbers. Received {received}. {remedy}")


def _minimise(features, labels, start, penalty, tolerance):
    shape, likelihood = start.shape, _sigmoids if labels.ndim == 2 else _softmax
    truth = np.asarray(labels, "float32") if labels.ndim == 2 else np.eye(shape[1], dtype="float32")[labels]

    def loss_and_gradient(flat):
        weights, gradient = flat.reshape(shape), np.empty(shape, "float32")
        loss, scores = likelihood(features @ weights[:-1] + weights[-1], truth)
        residual = (scores - truth) / np.float32(len(labels))
        np.matmul(features.T, residual, out=gradient[:-1])
        gradient[:-1] += np.float32(penalty) * weights[:-1]
        residual.sum(0, out=gradient[-1])
        return loss / len(labels) + penalty / 2 * float((weights[:-1] ** 2).sum()), gradient.ravel()

    return minimise(loss_and_gradient, start.ravel().astype("float32"), tolerance).reshape(shape)


def _softmax(logits, truth):
    """-log of the likelihood of all labels, and the scores."""
    log_scores = log_softmax(logits, axis=1)
    return -(truth * log_scores).sum(), np.exp(log_scores)


def _sigmoids(logits, truth):
    """The same for sigmoids."""
    return -log_expit(np.where(truth, logits, -logits)).sum(), expit(logits)
