"""The linear probe: logistic regression on fixed features.

The best linear head for fixed features is a convex problem, which L-BFGS solves in seconds and without a learning rate. A
network that starts fine-tuning with this head keeps its pretrained features, which a random head would distort (Kumar et al.,
2022, Fine-Tuning can Distort Pretrained Features, arXiv:2202.10054).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, log_expit, log_softmax

from keras_cnn import arguments

T = TypeVar("T")
# From strong to weak, for features of variance 1: from almost no use of the features to full use.
L2_VALUES = tuple(10.0**exponent for exponent in np.arange(2, -5.01, -0.5))
# L-BFGS stops at this decrease of the loss per iteration, relative to the loss or to 1 if it is smaller: in the search for the
# L2, and in the final fit.
COARSE_TOLERANCE, FINE_TOLERANCE = 1e-5, 1e-6
# Features that hardly vary would count as much as all others if they were divided by less, and so would the rounding errors
# in them. `benchmarks/probe_scaling.py` compares shares.
SMALLEST_DEVIATION, TINY = 1.0, 1e-6
ONE_THREAD_BELOW = 1e9  # multiplications per product of matrices
MAX_ITERATIONS = 200  # where it ends as well: all that counts is the validation loss


@dataclass(frozen=True)
class LinearProbe:
    """A linear head: probabilities are `softmax(features @ kernel + bias)`, or `sigmoid` of it for several labels per example.

    Attributes:
        kernel: `(features, classes)`, float32, for raw features (it includes the standardisation).
        bias: `(classes,)`, float32.
        l2: The selected L2 penalty.
        loss: Mean `cross_entropy` on the validation examples, in nats.
    """

    kernel: np.ndarray
    bias: np.ndarray
    l2: float
    loss: float

    def logits(self, features: np.ndarray) -> np.ndarray:
        """`(examples, features)` -> `(examples, classes)`."""
        return features @ self.kernel + self.bias


def fit_linear_probe(
    features: ArrayLike,
    labels: ArrayLike,
    classes: int,
    validation_features: ArrayLike,
    validation_labels: ArrayLike,
    l2_values: Sequence[float] = L2_VALUES,
    start: LinearProbe | None = None,
    sample_weight: ArrayLike | None = None,
    smallest_deviation: float = SMALLEST_DEVIATION,
) -> LinearProbe:
    """Logistic regression with the L2 penalty that is best on validation examples.

    Minimises mean cross-entropy + l2 / 2 · ‖W‖² over W and b, on features standardised by the training examples. With
    class indices it is multinomial. With rows of 0 and 1, several labels per example, the cross-entropy is the sum of the
    binary cross-entropies of the classes: each class has the binary regression that it would have alone, and all share the
    L2 penalty that is best for all.

    Args:
        features: `(examples, features)` of the training examples.
        labels: `(examples,)` integers from 0 to `classes` - 1, for softmax; or `(examples, classes)` of 0 and 1, for sigmoids.
            A class without examples gets a probability near 0.
        classes: Number of classes.
        validation_features: As `features`; used only to select the L2 penalty.
        validation_labels: As `labels`.
        l2_values: Candidates, strongest first.
        start: The `LinearProbe` to start from, such as one fitted on a part of the examples. None: zeros.
        sample_weight: `(examples,)`, the factor of each training example's cross-entropy, 1 on average. None: all 1.
        smallest_deviation: Features are divided by their standard deviation, or by this share of the root mean square of all
            deviations where that is more. 0 for features in different units.

    Returns:
        The `LinearProbe` with the lowest validation loss; the search starts in the middle of the candidates.

    Raises:
        ValueError: If labels have neither shape, or features are not finite.
    """
    features, validation_features = np.asarray(features, "float32"), np.asarray(validation_features, "float32")
    labels, validation_labels = _checked(labels, classes), _checked(validation_labels, classes)
    _check_finite(features)
    mean, deviation = features.mean(0), features.std(0)
    deviation = np.maximum(deviation, max(TINY, smallest_deviation * float(np.sqrt((deviation**2).mean()))))
    standardised = (features - mean) / deviation
    factors = None if sample_weight is None else np.asarray(sample_weight, "float32")[:, None]

    def fit(l2, start, tolerance):
        weights = _minimise(standardised, labels, start, l2, tolerance, factors)
        kernel = weights[:-1] / deviation[:, None]
        probe = LinearProbe(kernel.astype("float32"), (weights[-1] - mean @ kernel).astype("float32"), l2, 0.0)
        loss = cross_entropy(probe.logits(validation_features), validation_labels)
        return replace(probe, loss=loss), weights

    weights = np.zeros((features.shape[1] + 1, classes), "float32")
    if start is not None:
        weights = np.vstack([start.kernel * deviation[:, None], start.bias + mean @ start.kernel])
    with _blas_threads(features.size * classes):
        best = search_l2(
            l2_values,
            lambda l2, found: fit(l2, weights if found is None else found[1], COARSE_TOLERANCE),
            lambda found: found[0].loss,
        )
        return fit(best[0].l2, best[1], FINE_TOLERANCE)[0]


def search_l2(l2_values: Sequence[float], fit: Callable[[float, T | None], T], loss: Callable[[T], float]) -> T:
    """The best fit of some L2 penalties. As a function of the penalty the loss has one minimum: the first rise ends the search.

    Args:
        l2_values: Candidates, strongest first; the search begins in the middle.
        fit: A function of a penalty, and of the best fit so far (None at first), that gives a fit.
        loss: The loss of a fit.
    """
    middle = len(l2_values) // 2
    best = fit(l2_values[middle], None)
    for candidates in (l2_values[middle + 1 :], l2_values[:middle][::-1]):
        for l2 in candidates:
            other = fit(l2, best)
            if loss(other) >= loss(best):
                break
            best = other
    return best


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> float:
    """The mean over examples of -log of the likelihood of their labels, in nats.

    Args:
        logits: `(examples, classes)`.
        labels: `(examples,)` class indices: -log softmax(logits)[label]. Or `(examples, classes)` of 0 and 1: the sum over
            classes of -log sigmoid(logit) for a 1, of -log(1 - sigmoid(logit)) for a 0.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2:
        return float(-log_expit(np.where(labels, logits, np.negative(logits))).sum(1).mean())
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def _checked(labels, classes):
    labels = np.asarray(labels)
    if labels.ndim != 1 and labels.shape[1:] != (classes,):
        expected = f"(examples,) class indices, or (examples, {classes}) of 0 and 1"
        raise ValueError(arguments.message("fit_linear_probe", "labels", expected, labels.shape))
    return labels


def _check_finite(features):
    invalid = np.count_nonzero(~np.isfinite(features).all(1))
    if invalid:
        remedy = "Look for examples or weights that are NaN or infinite, or too large for the precision they were computed in."
        received = f"NaN or infinity in {invalid} of {len(features)} examples"
        raise ValueError(f"fit_linear_probe: `features` must be finite. Received: {received}. {remedy}")


def _blas_threads(multiplications):
    """A context in which BLAS has one thread, unless a product of matrices takes long.

    NumPy and SciPy each bring a BLAS, whose threads wait for each other by spinning. Where other programs run, small products
    then take many times as long.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1 if multiplications < ONE_THREAD_BELOW else None, user_api="blas")


def _minimise(features, labels, start, l2, tolerance, factors):
    from scipy import optimize  # takes 0.2 s, which `import keras_cnn` does without

    shape, likelihood = start.shape, _sigmoids if labels.ndim == 2 else _softmax
    targets = np.asarray(labels, "float32") if labels.ndim == 2 else np.eye(shape[1], dtype="float32")[labels]

    def loss_and_gradient(flat):
        weights, gradient = flat.astype("float32").reshape(shape), np.empty(shape, "float32")
        losses, probabilities = likelihood(features @ weights[:-1] + weights[-1], targets)
        residual = (probabilities - targets) / np.float32(len(labels))
        if factors is not None:
            losses *= factors
            residual *= factors
        np.matmul(features.T, residual, out=gradient[:-1])
        gradient[:-1] += np.float32(l2) * weights[:-1]
        residual.sum(0, out=gradient[-1])
        loss = losses.sum(dtype="float64") / len(labels) + l2 / 2 * float((weights[:-1] ** 2).sum())
        return loss, gradient.ravel().astype("float64")

    # `gtol` is 0 because the size of a gradient says little about the loss.
    options = {"maxiter": MAX_ITERATIONS, "ftol": tolerance, "gtol": 0}
    found = optimize.minimize(loss_and_gradient, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    return found.x.reshape(shape).astype("float32")


def _softmax(logits, targets):
    """-log of the likelihood of each label, and the probabilities."""
    log_probabilities = log_softmax(logits, axis=1)
    return -(targets * log_probabilities), np.exp(log_probabilities)


def _sigmoids(logits, targets):
    """As `_softmax`, for one sigmoid per class."""
    return -log_expit(np.where(targets, logits, -logits)), expit(logits)
