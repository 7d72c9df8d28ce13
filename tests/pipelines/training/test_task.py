"""Which of two networks is selected: the one that learned more only where validation images show that it is better."""

import math

import keras
import numpy as np
import pytest

from pipelines.training.task import MultiLabel, SingleLabel, is_clear


def answers(correct):
    """Probabilities of two classes for images of class 0 that are classified correctly or not."""
    return np.where(np.asarray(correct, bool)[:, None], [0.8, 0.2], [0.2, 0.8])


def two_networks(both, first, second, neither):
    """Probabilities of two networks that classify so many images correctly: both of them, one alone, none."""
    one = answers([1] * both + [1] * first + [0] * second + [0] * neither)
    other = answers([1] * both + [0] * first + [1] * second + [0] * neither)
    return one, other, np.zeros(len(one), int)


def test_the_standard_error_of_a_gain_is_that_of_mcnemars_test():
    # McNemar, 1947: (b - c) / sqrt(b + c) is standard normal where neither is better; here b = 130, c = 98 of 2,000.
    gain, error = SingleLabel(2).gain(*two_networks(1500, 130, 98, 272))
    assert gain == pytest.approx(32 / 2000)
    assert error == pytest.approx(math.sqrt(130 + 98) / 2000, rel=3e-3)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((13, 1, 0, 0), False),  # one more of 14
        ((12, 2, 0, 0), True),
        ((12, 0, 0, 2), False),
        ((11, 0, 2, 1), False),
        ((300, 30, 24, 46), False),  # 6 more, with a standard error of 7.4
        ((300, 30, 22, 48), True),  # 8 more, with one of 7.3
    ],
)
def test_a_gain_counts_from_a_standard_error_on(counts, expected):
    assert is_clear(*SingleLabel(2).gain(*two_networks(*counts))) == expected


def test_the_standard_error_of_a_gain_in_average_precision():
    # Equal scores for all: average precision is the share of positives, the same for both whatever is drawn.
    targets = (np.arange(400) % 4 == 0).astype(int)[:, None]
    equal = np.full((400, 1), 0.5)
    assert MultiLabel(1).gain(equal, equal, targets) == (0, 0) and not is_clear(0, 0)
    # Against a perfect ranking the gain is the share of negatives, and so is its standard error that of a share.
    gain, error = MultiLabel(1).gain(targets.astype(float), equal, targets)
    assert gain == pytest.approx(0.75)
    assert error == pytest.approx(math.sqrt(0.25 * 0.75 / 400), rel=4 * math.sqrt(1 / 200))


@pytest.mark.parametrize("task", [SingleLabel(2), MultiLabel(2)])
def test_the_loss_of_the_start_is_the_one_that_each_epoch_gets(task):
    """Also where the network is certain and wrong, and the logits of Keras would give a loss without an upper bound."""
    several = np.array([[1, 0], [0, 1], [1, 1], [0, 1]])
    targets = several if isinstance(task, MultiLabel) else several[:, 1]
    inputs = keras.Input((2,))
    outputs = keras.layers.Dense(2, "sigmoid" if isinstance(task, MultiLabel) else "softmax", kernel_initializer="ones")
    model = keras.Model(inputs, outputs(inputs))
    model.layers[1].set_weights([np.array([[-9.0, 5.0], [40.0, -60.0]]), np.zeros(2)])
    model.compile("sgd", **task.compile_arguments(0.0), jit_compile=False)
    x = np.array([[1.0, 0.0], [0.1, 2.0], [0.0, 0.1], [3.0, 1.0]], "float32")
    rows = several if isinstance(task, MultiLabel) else np.eye(2)[targets]
    score = task.score(model.predict(x, verbose=0), targets)
    found = model.evaluate(x, rows.astype("float32"), verbose=0, return_dict=True)
    assert found["crossentropy"] == pytest.approx(score["loss"], rel=1e-5)
    assert found["loss"] > 1.5 * found["crossentropy"]  # the loss is not clipped
