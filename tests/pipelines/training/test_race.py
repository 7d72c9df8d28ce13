"""The race of learning rates, on features of numbers instead of images."""

import math

import keras
import numpy as np
import pytest

import keras_cnn as kc
from pipelines import defaults
from pipelines.training import race
from pipelines.training.interpolation import COEFFICIENTS, best_coefficient, interpolate
from pipelines.training.race import Fold, run_race
from pipelines.training.task import MultiLabel, SingleLabel

LOW, GOOD = 1e-6, 0.03
STEPS = 40


def make_network(activation):
    """Two layers, with the same weights each time."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(8, "relu"), keras.layers.Dropout(0.2), keras.layers.Dense(2, name="logits")]
    return keras.Sequential([keras.Input((2,)), *layers, keras.layers.Activation(activation)])


@pytest.fixture
def network():
    return make_network("softmax")


def exclusive_or(count, seed):
    """Examples that no linear head separates: the class is whether the two signs differ."""
    x = np.random.default_rng(seed).choice([-1.0, 1.0], (count, 2))
    noise = np.random.default_rng(seed + 1).normal(0, 0.1, (count, 2))
    return (x + noise).astype("float16"), (x.prod(1) < 0).astype(int)


def make_fold(seed, flipped=False):
    """40 examples to train on and 60 to judge by; `flipped`: with the wrong class to train on."""
    (x, targets), (held_out, truth) = exclusive_or(40, seed), exclusive_or(60, seed + 100)
    return Fold([x], 1 - targets if flipped else targets, None, held_out), truth


def settings_of(network, **options):
    backbone = kc.Backbone(network, (), kc.Preprocessing(4), "made here")
    plain = {"train": "all", "epochs": 1, "weight_decay": 0.0, "label_smoothing": 0.0}
    return defaults.choose(backbone, 40, **plain, **options)


def run(network, folds, truth, rates, folder, task=None, **options):
    settings = settings_of(network, **options)
    return run_race(
        *(network, network, folds, truth, rates, task or SingleLabel(2), settings, STEPS, folder),
        lambda count: None,
    )


def test_the_rate_that_learns_wins_and_the_weights_are_as_before(network, tmp_path):
    fold, truth = make_fold(0)
    before = network.get_weights()
    found = run(network, [fold], truth, (LOW, GOOD), tmp_path)
    assert found.learning_rate == GOOD and found.losses[GOOD] < 0.3 < found.losses[LOW] < 1
    assert (found.probabilities.argmax(1) == truth).mean() > 0.9
    for one, other in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_network_of_nan_never_wins(network, tmp_path, monkeypatch):
    """Not even from a guess that is worse than chance."""
    fold, truth = make_fold(0)
    judged = np.full((2, len(COEFFICIENTS), 60, 2), np.nan, "float32")
    judged[1] = np.where(np.eye(2)[truth] == 1, 0.3, 0.7)
    monkeypatch.setattr(race, "_judge", lambda *_: judged)
    found = run(network, [fold], truth, (GOOD, LOW), tmp_path)
    assert found.learning_rate == LOW and found.losses[GOOD] == math.inf


def test_a_fold_knows_nothing_of_the_others(network, tmp_path):
    """After a fold whose classes are exchanged, and which would teach the wrong answer, the same fold ends the same."""
    fold, truth = make_fold(0)
    wrong, _ = make_fold(1, flipped=True)
    alone = run(network, [fold], truth, (GOOD,), tmp_path)
    after = race._judge(
        network, network, [wrong, fold], (GOOD,), SingleLabel(2), settings_of(network), STEPS, lambda count: None
    )
    np.testing.assert_array_equal(after[0, COEFFICIENTS.index(alone.coefficient), 60:], alone.probabilities)


def test_rates_are_judged_alike_whatever_their_order(network, tmp_path):
    """Optimizer, seeds and weights are as new for each rate."""
    fold, truth = make_fold(0)
    one = run(network, [fold], truth, (GOOD, LOW), tmp_path).losses
    (tmp_path / "race.npz").unlink()
    assert run(network, [fold], truth, (LOW, GOOD), tmp_path).losses == one


def test_what_an_interrupted_job_has_found_is_read_unless_it_is_damaged_or_of_another_race(
    network, tmp_path, monkeypatch
):
    (fold, truth), calls = make_fold(0), []

    def judge(*_):
        calls.append(1)
        return np.random.default_rng(0).dirichlet([1, 1], (2, len(COEFFICIENTS), 60)).astype("float32")

    monkeypatch.setattr(race, "_judge", judge)
    first = run(network, [fold], truth, (LOW, GOOD), tmp_path)
    again = run(network, [fold], truth, (LOW, GOOD), tmp_path)
    assert again.losses == first.losses and again.learning_rate == first.learning_rate and len(calls) == 1
    file = tmp_path / "race.npz"
    for content in (b"", file.read_bytes()[:-200], b"PK" + file.read_bytes()[2:100]):
        file.write_bytes(content)
        assert run(network, [fold], truth, (LOW, GOOD), tmp_path).losses == first.losses
    assert len(calls) == 4
    for rates, targets in (((GOOD, LOW), truth), ((GOOD, LOW), 1 - truth)):
        run(network, [fold], targets, rates, tmp_path)
    assert len(calls) == 6


def test_a_race_of_several_labels_per_image(tmp_path):
    (x, targets), (held_out, truth) = exclusive_or(40, 0), exclusive_or(60, 100)
    several, expected = (np.stack([labels, 1 - labels], 1) for labels in (targets, truth))
    network = make_network("sigmoid")
    found = run(network, [Fold([x], several, None, held_out)], expected, (LOW, GOOD), tmp_path, MultiLabel(2))
    assert found.learning_rate == GOOD and ((found.probabilities > 0.5) == expected).mean() > 0.85


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"layer_decay": 0.9},
        {"optimizer": "sgd"},
        {"ema_momentum": 0.5, "gradient_accumulation_steps": 2},
        {"class_balance": "weights"},
        {"class_balance": "sampling"},
    ],
)
def test_a_race_with_every_option_of_training(network, tmp_path, options):
    fold, truth = make_fold(0)
    one = run(network, [fold], truth, (0.01, 0.05), tmp_path, **options).losses
    (tmp_path / "race.npz").unlink()
    assert run(network, [fold], truth, (0.05, 0.01), tmp_path, **options).losses == one


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([0.9, 0.5, 0.4, 0.6], 0.75),
        ([0.9, 0.5, 0.595, 0.6], 0.5),
        ([0.9, 0.595, 0.6, 0.6], 1.0),  # no clear gain
        ([1e-7] * 4, 1.0),
        ([0.5, math.inf, math.inf, math.inf], 0.25),
    ],
)
def test_the_trained_network_is_left_only_for_a_clear_gain(losses, expected):
    assert COEFFICIENTS[best_coefficient(losses)] == expected


def test_interpolated_weights():
    start, end = [np.float32([0, 4]), np.int32([3])], [np.float32([1, 0]), np.int32([3])]
    found = interpolate(start, end, 0.25)
    np.testing.assert_array_equal(found[0], np.float32([0.25, 3]))
    assert [each.dtype for each in found] == [np.float32, np.int32] and found[1] == 3
    assert all(one is other for one, other in zip(interpolate(start, end, 1.0), end, strict=True))
