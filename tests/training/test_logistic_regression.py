"""The linear probe is the minimum: it satisfies the equations that only the minimum satisfies."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from keras_cnn.training import logistic_regression
from keras_cnn.training.logistic_regression import cross_entropy, fit_linear_probe


def blobs(examples, classes, features, seed=0):
    """Overlapping clusters, on axes of very different scale."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, examples)
    centres = np.random.default_rng(9).normal(size=(classes, features))
    scale = 10.0 ** np.arange(-2, features - 2)
    return (centres[labels] + random.normal(size=(examples, features))) * scale + 5, labels


@pytest.mark.parametrize("share", [0.0, 0.1])
@pytest.mark.parametrize("l2", [1.0, 0.01])
def test_the_gradient_vanishes(l2, share):
    features, labels = blobs(200, 3, 5)
    head = fit_linear_probe(features, labels, 3, features, labels, l2_values=(l2,), smallest_deviation=share)
    # In double precision and in the standardised space, where the L2 penalty acts.
    mean, deviation = features.mean(0), features.std(0)
    deviation = np.maximum(deviation, share * np.sqrt((deviation**2).mean()))
    assert (deviation > features.std(0)).sum() == (3 if share else 0)  # the scales are 0.01 to 100
    residual = softmax(features @ head.kernel.astype(float) + head.bias, axis=1) - np.eye(3)[labels]
    gradient = ((features - mean) / deviation).T @ residual / 200 + l2 * head.kernel * deviation[:, None]
    assert np.abs(gradient).max() < 2e-3
    assert np.abs(residual.mean(0)).max() < 2e-3


def test_rounding_errors_in_features_that_hardly_vary_hardly_count():
    """Two features that tell the classes apart, and 200 that are rounding errors: by default they change no probability."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 30)
    signal = random.normal(size=(30, 2)) + 2 * labels[:, None]
    noise, other_noise = 1e-4 * random.normal(size=(2, 30, 200))
    seen, again = np.hstack([signal, noise]), np.hstack([signal, other_noise])
    heads = [
        fit_linear_probe(seen, labels, 2, seen, labels, (0.01,), **options)
        for options in ({}, {"smallest_deviation": 0})
    ]
    changes = [np.abs(softmax(head.logits(seen), 1) - softmax(head.logits(again), 1)).max() for head in heads]
    assert changes[0] < 0.01 and changes[1] > 0.1


def test_it_starts_from_the_given_probe(monkeypatch):
    features, labels = blobs(200, 3, 5)
    start = fit_linear_probe(features, labels, 3, features, labels, l2_values=(1.0,))
    begun, minimise = [], logistic_regression._minimise

    def seen(standardised, labels, weights, *others):
        begun.append(standardised @ weights[:-1] + weights[-1])
        return minimise(standardised, labels, weights, *others)

    monkeypatch.setattr(logistic_regression, "_minimise", seen)
    others, truth = blobs(300, 3, 5, seed=1)  # with another mean and deviation
    head = fit_linear_probe(others, truth, 3, others, truth, l2_values=(0.01,), start=start)
    np.testing.assert_allclose(begun[0], start.logits(others), atol=1e-4)
    alone = fit_linear_probe(others, truth, 3, others, truth, l2_values=(0.01,))
    np.testing.assert_allclose(softmax(head.logits(others), 1), softmax(alone.logits(others), 1), atol=5e-3)


def test_without_information_the_probabilities_are_the_class_frequencies():
    labels = np.array([0] * 6 + [1] * 3 + [2])
    head = fit_linear_probe(np.ones((10, 4)), labels, 3, np.ones((10, 4)), labels)
    np.testing.assert_allclose(softmax(head.logits(np.ones((1, 4), "float32"))), [[0.6, 0.3, 0.1]], atol=1e-3)


def test_the_l2_is_selected_on_the_validation_examples():
    # 40 features of noise and 30 examples: the weakest L2 overfits, which validation shows.
    random = np.random.default_rng(1)
    features, labels = random.normal(size=(30, 40)), random.integers(0, 2, 30)
    others, truth = random.normal(size=(200, 40)), random.integers(0, 2, 200)
    selected = fit_linear_probe(features, labels, 2, others, truth, l2_values=(10.0, 1e-4))
    overfitted = fit_linear_probe(features, labels, 2, features, labels, l2_values=(10.0, 1e-4))
    assert (selected.l2, overfitted.l2) == (10.0, 1e-4)
    assert selected.loss == pytest.approx(cross_entropy(selected.logits(others), truth), rel=1e-4)


def test_cross_entropy_by_hand():
    # softmax of (ln 3, 0) is (3/4, 1/4): the mean of ln(4/3) and ln 4.
    logits = np.array([[np.log(3), 0], [np.log(3), 0]])
    assert cross_entropy(logits, [0, 1]) == pytest.approx((np.log(4 / 3) + np.log(4)) / 2)


def several_labels(examples=300, classes=3, features=5):
    """Labels that are drawn independently of each other, one of them rare."""
    random = np.random.default_rng(3)
    data = random.normal(size=(examples, features)) * 10.0 ** np.arange(-2, features - 2) + 5
    logits = (data - data.mean(0)) / data.std(0) @ random.normal(size=(features, classes)) - np.array([0, 1, 4])
    return data, (random.uniform(size=logits.shape) < expit(logits)).astype(int)


def test_each_class_of_several_labels_is_fitted_as_alone():
    """Compared with Newton's method in double precision, one class at a time."""
    features, labels = several_labels()
    head = fit_linear_probe(features, labels, 3, features, labels, (0.01,), smallest_deviation=0)
    mean, deviation = features.mean(0), features.std(0)
    inputs = np.column_stack([(features - mean) / deviation, np.ones(300)])
    ridge = np.diag([0.01] * 5 + [0.0])
    for number in range(3):
        weights = np.zeros(6)
        for _ in range(30):
            scores = expit(inputs @ weights)
            gradient = inputs.T @ (scores - labels[:, number]) / 300 + ridge @ weights
            weights -= np.linalg.solve((inputs.T * (scores * (1 - scores))) @ inputs / 300 + ridge, gradient)
        np.testing.assert_allclose(expit(head.logits(features))[:, number], expit(inputs @ weights), atol=0.01)
    assert head.loss == pytest.approx(cross_entropy(head.logits(features), labels), rel=1e-4)


def test_classes_of_all_examples_or_of_none_do_not_affect_the_others():
    features, labels = several_labels()
    odd = np.column_stack([labels, np.zeros(300, int), np.ones(300, int)])
    head = fit_linear_probe(features, odd, 5, features, odd, smallest_deviation=0)
    scores = expit(head.logits(features))
    assert np.isfinite(head.kernel).all() and scores[:, 3].max() < 0.02 and scores[:, 4].min() > 0.98
    alone = fit_linear_probe(features, labels, 3, features, labels, (head.l2,), smallest_deviation=0)
    np.testing.assert_allclose(scores[:, :3], expit(alone.logits(features)), atol=0.02)


def test_cross_entropy_of_several_labels_by_hand():
    # sigmoid(ln 3) is 3/4, sigmoid(0) is 1/2: -ln 3/4 - ln 1/2 and -ln 1/4 - ln 1/2.
    logits = np.array([[np.log(3), 0], [np.log(3), 0]])
    expected = (np.log(4 / 3) + np.log(4)) / 2 + np.log(2)
    assert cross_entropy(logits, [[1, 1], [0, 0]]) == pytest.approx(expected)


def test_labels_of_another_shape_are_refused():
    with pytest.raises(
        ValueError, match=r"^fit_linear_probe: `labels` must be .* or \(examples, 3\) of 0 and 1\. Received"
    ):
        fit_linear_probe(np.ones((4, 2)), np.ones((4, 2), int), 3, np.ones((4, 2)), np.ones((4, 2), int))


def test_features_that_are_nan_or_infinite_are_refused():
    features = np.ones((4, 2))
    features[1, 0], features[3, 1] = np.nan, np.inf
    with pytest.raises(
        ValueError, match=r"^fit_linear_probe: `features` must be finite\. Received: NaN or infinity in 2 of 4 "
    ):
        fit_linear_probe(features, np.zeros(4, int), 3, np.ones((4, 2)), np.zeros(4, int))


def test_weights_are_factors_of_the_losses():
    random = np.random.default_rng(0)
    features = random.normal(size=(60, 4)).astype("float32")
    labels = (features[:, :3] + random.normal(size=(60, 3))).argmax(1)
    weights = np.array([0.5, 1.0, 3.0])[labels]
    weights /= weights.mean()
    probe = fit_linear_probe(features, labels, 3, features, labels, (0.01,), sample_weight=weights)
    # At the solution the gradient is zero: X'(w (p - y)) / n + l2 W, on standardised features.
    standardised = (features - features.mean(0)) / features.std(0)
    logits = features @ probe.kernel + probe.bias
    p = np.exp(logits - logits.max(1, keepdims=True))
    residual = (p / p.sum(1, keepdims=True) - np.eye(3)[labels]) * weights[:, None] / len(labels)
    gradient = standardised.T @ residual + 0.01 * probe.kernel * features.std(0)[:, None]
    assert np.abs(gradient).max() < 2e-3 and np.abs(residual.sum(0)).max() < 2e-3
    plain = fit_linear_probe(features, labels, 3, features, labels, (0.01,))
    assert probe.bias[2] - probe.bias[0] > plain.bias[2] - plain.bias[0] + 1
