"""Average precision: values from publications and by hand, and the metric for `model.fit` against the exact value."""

import keras
import numpy as np
import pytest

import keras_cnn as kc
from keras_cnn.training import MultiLabelAveragePrecision
from keras_cnn.training.metrics import average_precision


def column(*values):
    return np.array(values)[:, None]


@pytest.mark.parametrize(
    ("scores", "truth", "expected"),
    [
        # The example in the documentation of scikit-learn's `average_precision_score`.
        (column(0.1, 0.4, 0.35, 0.8), column(0, 0, 1, 1), [0.8333333]),
        # Its example of three classes, whose mean is given as 0.77: (5/6 + 3/4 + 3/4) / 3.
        (
            [[0.7, 0.2, 0.1], [0.4, 0.3, 0.3], [0.1, 0.8, 0.1], [0.2, 0.3, 0.5], [0.4, 0.4, 0.2], [0.1, 0.2, 0.7]],
            np.eye(3)[[0, 0, 1, 1, 2, 2]],
            [5 / 6, 3 / 4, 3 / 4],
        ),
        (column(3, 2, 1), column(1, 1, 0), [1.0]),
        (column(3, 2, 1), column(0, 0, 1), [1 / 3]),
        # Recall 1/3 at precision 1/1, 2/3 at 2/3, 1 at 3/5.
        (column(9, 8, 7, 6, 5), column(1, 0, 1, 0, 1), [(1 + 2 / 3 + 3 / 5) / 3]),
        # Equal scores enter together, so precision is the fraction of positives.
        (column(5, 5, 5, 5), column(1, 0, 0, 0), [1 / 4]),
        (column(5, 4, 4, 3), column(1, 1, 0, 0), [1 / 2 + 1 / 2 * 2 / 3]),
    ],
)
def test_average_precision_by_hand(scores, truth, expected):
    np.testing.assert_allclose(average_precision(scores, truth), expected, atol=1e-7)


def test_a_class_without_examples_gives_nan():
    found = average_precision([[0.9, 0.1], [0.2, 0.3]], [[1, 0], [0, 0]])
    assert found[0] == 1 and np.isnan(found[1])


def test_shapes_are_checked():
    with pytest.raises(
        ValueError, match=r"^average_precision: `scores` must be \(examples, classes\), as `targets`\. Rec"
    ):
        average_precision([[0.1]], [1])


def probabilities(examples, classes, spread):
    """Targets, and scores that correlate with them."""
    random = np.random.default_rng(0)
    truth = random.uniform(size=(examples, classes)) < np.linspace(0.01, 0.6, classes)
    logits = 2 * truth + random.normal(-2, spread, (examples, classes))
    return truth.astype("float32"), (1 / (1 + np.exp(-logits))).astype("float32")


@pytest.mark.parametrize("spread", [0.5, 4.0])
def test_the_metric_equals_the_exact_value_up_to_its_bins_for_any_batches(spread):
    truth, scores = probabilities(400, 7, spread)
    metric = MultiLabelAveragePrecision(7)
    for start in range(0, 400, 64):
        metric.update_state(truth[start : start + 64], scores[start : start + 64])
    assert float(metric.result()) == pytest.approx(average_precision(scores, truth).mean(), abs=5e-3)
    metric.reset_state()
    assert float(metric.result()) == 0


def test_classes_without_an_example_do_not_count_in_the_metric():
    metric = MultiLabelAveragePrecision(3)
    metric.update_state(
        np.array([[1, 0, 0], [0, 0, 1], [1, 0, 0]]), np.array([[0.9, 0.9, 0.1]] * 2 + [[0.1, 1.0, 0.0]])
    )
    # The first: 1/2 at precision 1/2, all at 2/3. The last: its 1 has the same score as a 0.
    assert float(metric.result()) == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1 / 2) / 2)


def test_the_metric_ranks_probabilities_near_zero_and_near_one():
    """The thresholds of keras.metrics.AUC, 0.005 apart, take them for equal."""
    metric = MultiLabelAveragePrecision(2)
    metric.update_state(column(1, 0, 0) * [[1, 1]], np.array([[1e-4, 0.9999], [1e-5, 0.999], [2e-6, 0.99]]))
    assert float(metric.result()) == 1


def test_examples_can_be_weighted():
    metric = MultiLabelAveragePrecision(1)
    # Positives of weight 1 and 2 after a negative of weight 3: recall 1/3 at precision 1/4, all at 3/6.
    metric.update_state(column(0, 1, 1), column(0.9, 0.5, 0.2), sample_weight=[3.0, 1.0, 2.0])
    assert float(metric.result()) == pytest.approx(1 / 3 * 1 / 4 + 2 / 3 * 3 / 6)


def test_a_model_compiled_with_the_metric_loads(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "sigmoid")])
    model.compile("sgd", "binary_crossentropy", metrics=[kc.training.MultiLabelAveragePrecision(3)])
    truth = np.eye(3, dtype="float32")[[0, 1, 2, 0]]
    activations = np.random.default_rng(1).normal(size=(4, 4)).astype("float32")
    history = model.fit(activations, truth, validation_data=(activations, truth), verbose=0).history
    assert history["val_mean_average_precision"][0] == pytest.approx(
        average_precision(model.predict(activations, verbose=0), truth).mean(), abs=5e-3
    )
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").evaluate(activations, truth, verbose=0, return_dict=True)
    assert again["mean_average_precision"] == pytest.approx(history["val_mean_average_precision"][0])
