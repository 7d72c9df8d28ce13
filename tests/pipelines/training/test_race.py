"""The race of learning rates, on features of numbers instead of images."""

import keras
import numpy as np
import pytest

import keras_cnn as kc
from pipelines import defaults
from pipelines.training import race
from pipelines.training.interpolation import COEFFICIENTS, interpolate
from pipelines.training.race import Fold, run_race
from pipelines.training.task import SingleLabel

LOW, GOOD, WILD = 1e-6, 0.03, 1e30
STEPS = 40


@pytest.fixture
def network():
    """Two layers, with the same weights each time."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(8, "relu"), keras.layers.Dropout(0.2), keras.layers.Dense(2, name="logits")]
    return keras.Sequential([keras.Input((2,)), *layers, keras.layers.Softmax()])


def exclusive_or(count, seed):
    """Examples that no linear head separates: the class is whether the two signs differ."""
    x = np.random.default_rng(seed).choice([-1.0, 1.0], (count, 2))
    noise = np.random.default_rng(seed + 1).normal(0, 0.1, (count, 2))
    return (x + noise).astype("float16"), (x.prod(1) < 0).astype(int)


def make_fold(seed, flipped=False):
    """40 examples to train on and 20 to judge by; `flipped`: with the wrong class to train on."""
    (x, targets), (held_out, truth) = exclusive_or(40, seed), exclusive_or(20, seed + 100)
    return Fold([x], 1 - targets if flipped else targets, None, held_out), truth


def settings_of(network):
    backbone = kc.Backbone(network, (), kc.Preprocessing(4), "made here")
    return defaults.choose(backbone, 40, train="all", epochs=1, weight_decay=0.0, label_smoothing=0.0)


def run(network, folds, truth, rates, folder):
    return run_race(
        network, network, folds, truth, rates, SingleLabel(2), settings_of(network), STEPS, folder, lambda count: None
    )


def test_the_rate_that_learns_wins_and_the_weights_are_as_before(network, tmp_path):
    fold, truth = make_fold(0)
    before = network.get_weights()
    found = run(network, [fold], truth, (LOW, GOOD, WILD), tmp_path)
    assert found.learning_rate == GOOD and found.losses[GOOD] < 0.3 < found.losses[LOW] == pytest.approx(0.69, abs=0.3)
    assert (found.probabilities.argmax(1) == truth).mean() > 0.9
    for one, other in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_fold_knows_nothing_of_the_others(network, tmp_path):
    """After a fold whose classes are exchanged, and which would teach the wrong answer, the same fold ends the same."""
    fold, truth = make_fold(0)
    wrong, _ = make_fold(1, flipped=True)
    alone = run(network, [fold], truth, (GOOD,), tmp_path)
    after = race._judge(
        network, network, [wrong, fold], (GOOD,), SingleLabel(2), settings_of(network), STEPS, lambda count: None
    )
    np.testing.assert_array_equal(after[0, COEFFICIENTS.index(alone.coefficient), 20:], alone.probabilities)


def test_rates_are_judged_alike_whatever_their_order(network, tmp_path):
    """Optimizer, seeds and weights are as new for each rate."""
    fold, truth = make_fold(0)
    one = run(network, [fold], truth, (GOOD, LOW), tmp_path).losses
    (tmp_path / "race.npz").unlink()
    assert run(network, [fold], truth, (LOW, GOOD), tmp_path).losses == one


def test_what_an_interrupted_job_has_found_is_read_unless_it_is_damaged(network, tmp_path, monkeypatch):
    fold, truth = make_fold(0)
    first = run(network, [fold], truth, (LOW, GOOD), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(race, "_judge", None)
        again = run(network, [fold], truth, (LOW, GOOD), tmp_path)
    assert again.losses == first.losses and again.learning_rate == first.learning_rate
    file = tmp_path / "race.npz"
    for content in (b"", file.read_bytes()[:-200], b"PK" + file.read_bytes()[2:100]):
        file.write_bytes(content)
        assert run(network, [fold], truth, (LOW, GOOD), tmp_path).losses == first.losses


def test_interpolated_weights():
    start, end = [np.float32([0, 4]), np.int32([3])], [np.float32([1, 0]), np.int32([3])]
    found = interpolate(start, end, 0.25)
    np.testing.assert_array_equal(found[0], np.float32([0.25, 3]))
    assert [each.dtype for each in found] == [np.float32, np.int32] and found[1] == 3
    assert all(one is other for one, other in zip(interpolate(start, end, 1.0), end, strict=True))
