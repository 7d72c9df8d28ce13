"""Training that diverges goes back to the best weights at a lower rate, also when it is interrupted on the way."""

import json
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import keras_cnn as kc
from pipelines import defaults
from pipelines.datasets.feature_batches import FeatureBatches, to_one_hot
from pipelines.training.divergence import DivergenceGuard, Restart
from pipelines.training.restarts import Start, fit_with_restarts
from pipelines.training.task import MultiLabel, SingleLabel, sort_key


class Interrupted(keras.callbacks.Callback):
    """As Ctrl-C after a number of steps, all tries counted."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        if logs:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt


def trained(folder, inputs, callbacks=(), objective=None, reported=None, **options):
    """Contradictory labels for one input: the loss is log 2 at best, and large where the weights swing."""
    keras.utils.set_random_seed(0)
    objective = objective or SingleLabel(2)
    targets = np.arange(8) % 2
    activation = "softmax" if isinstance(objective, SingleLabel) else "sigmoid"
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation, kernel_initializer="zeros")])
    network = kc.Backbone(model, (), kc.Preprocessing(4), "made here")
    plain = {"train": "all", "epochs": 4, "batch_size": 2, "optimizer": "sgd", "global_clipnorm": 0.0}
    chosen = defaults.choose(network, 8, **{**plain, **options})
    batches = FeatureBatches([inputs], to_one_hot(targets, 2), chosen.batch_size, seed=0)
    truth = targets if isinstance(objective, SingleLabel) else to_one_hot(targets, 2)
    start = objective.score(np.full((8, 2), 0.5, "float32"), truth)
    report = (reported if reported is not None else []).append
    begin = Start(objective, start, objective.chance(truth, truth), 8, report)
    validation = (np.ones((8, 4), "float32"), to_one_hot(targets, 2))
    fitted = fit_with_restarts(model, batches, validation, begin, chosen, folder, callbacks)
    return fitted, model.get_weights()


ONES = np.ones((8, 4), "float16")
DIVERGING = 3.0  # and so does a quarter of it, but not a quarter of that


@pytest.mark.slow
@pytest.mark.parametrize("objective", [SingleLabel(2), MultiLabel(2)])
def test_nan_ends_training_with_the_weights_it_began_with_after_two_restarts(tmp_path, objective):
    inputs, reported = ONES.copy(), []
    inputs[5] = np.nan
    fitted, weights = trained(tmp_path, inputs, objective=objective, reported=reported, learning_rate=0.016)
    assert [restart.learning_rate for restart in fitted.restarts] == [0.016, 0.004, 0.001]
    assert [restart.next_learning_rate for restart in fitted.restarts] == [0.004, 0.001, None]
    assert all(restart.reason == "the loss is NaN or infinite" for restart in fitted.restarts)
    assert len(fitted.history) == 3 and not weights[0].any()
    assert reported == [restart.to_text() for restart in fitted.restarts]
    assert reported[0] == (
        "Training diverged in epoch 1 at a learning rate of 0.016: the loss is NaN or infinite. Restarted from the best "
        "weights with 0.004."
    )
    assert reported[2].endswith("Training stopped with the best weights so far. A lower --learning-rate may help.")


@pytest.mark.slow
def test_a_lower_rate_carries_on_where_a_higher_one_diverged(tmp_path):
    fitted, weights = trained(tmp_path, ONES, learning_rate=DIVERGING)
    assert [restart.next_learning_rate for restart in fitted.restarts] == [DIVERGING / 4, DIVERGING / 16]
    # Four epochs that did not diverge, and the ones that did.
    assert len(fitted.history) == 4 + len(fitted.restarts)
    assert fitted.restarts[0].reason.startswith(("the training loss rose to", "the validation cross-entropy rose to"))
    # What is kept is not worse than the start: a uniform guess.
    logits = (ONES @ weights[0] + weights[1])[:1]
    assert -np.log(np.exp(logits) / np.exp(logits).sum()).mean() <= math.log(2) + 1e-3
    assert len({len(row) for row in fitted.history}) == 1 and all(
        isinstance(row["loss"], float) for row in fitted.history
    )


def test_sound_training_is_left_alone(tmp_path):
    fitted, _ = trained(tmp_path, ONES, learning_rate=0.01)
    assert fitted.restarts == () and len(fitted.history) == 4


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A job that diverges twice, not interrupted, and the number of its steps."""
    counter = Interrupted(-1)
    return *trained(tmp_path_factory.mktemp("straight"), ONES, [counter], learning_rate=DIVERGING), -1 - counter.left


def assert_same_end(straight, folder, *steps):
    """Interrupted after some steps, again after more, and then run to its end: the same to the bit."""
    for step in steps:
        with pytest.raises(KeyboardInterrupt):
            trained(folder, ONES, [Interrupted(step)], learning_rate=DIVERGING)
    fitted, weights = trained(folder, ONES, learning_rate=DIVERGING)
    assert fitted == straight[0]
    for array, other in zip(weights, straight[1], strict=True):
        np.testing.assert_array_equal(array, other)


@pytest.mark.slow
def test_restarts_are_part_of_exact_resume(straight, tmp_path):
    assert [restart.next_learning_rate is None for restart in straight[0].restarts] == [False, False]
    assert_same_end(straight, tmp_path, 1, 5)


@pytest.mark.slow
def test_exact_resume_after_any_step(straight, tmp_path):
    for step in range(1, straight[2]):
        assert_same_end(straight, tmp_path / str(step), step)


def guard(start, loss, chance, classes, examples):
    made = DivergenceGuard(
        {"accuracy": start, "loss": loss}, {"accuracy": chance, "loss": 9.0}, math.log(classes), examples
    )
    made.set_model(SimpleNamespace(stop_training=False))
    return made


@pytest.mark.parametrize(
    ("of", "epoch", "diverged"),
    [
        # Measured: accuracies and losses of runs that recovered, and of one that did not.
        ((0.74, 1.0, 0.02, 81, 296), (0.50, 2.2), False),
        ((0.897, 0.4, 0.2, 7, 68), (0.735, 0.9), False),
        ((0.762, 0.65, 0.55, 4, 250), (0.26, 22.0), True),
        # All images of one class, at a small loss. float32(1/3) is above 1/3.
        ((0.9, 0.4, 1 / 3, 3, 60), (1 / 3, 1.1), True),
        ((0.762, 0.65, 0.55, 4, 250), (0.55, 1.1), True),
        ((0.762, 0.65, 0.55, 4, 250), (0.56, 1.1), False),
        # One image of ten is another class, and all were right at first: 0.1 is one standard error of guesses.
        ((1.0, 0.01, 0.9, 2, 10), (0.9, 0.3), False),
        # A start that is itself no better than chance by two standard errors (0.55 of 20: 0.11 each).
        ((0.6, 0.69, 0.55, 2, 20), (0.5, 0.9), False),
        ((0.9, 0.3, 0.5, 2, 20), (0.9, math.nan), True),
    ],
)
def test_what_validation_shows(of, epoch, diverged):
    made = guard(*of)
    accuracy, loss = map(float, np.array(epoch, "float32"))  # as Keras gives them
    made.on_epoch_end(0, {"val_accuracy": accuracy, "val_crossentropy": loss})
    assert bool(made.reason) == made.model.stop_training == diverged


def test_batch_losses_are_taken_out_of_the_running_mean():
    made, losses = guard(0.5, 0.7, 0.5, 2, 100), [0.7, 0.3, 1.9, 0.1]
    for epoch in range(2):
        made.on_epoch_begin(epoch)
        found = [made._batch_loss(float(np.mean(losses[: n + 1]))) for n in range(4)]
        np.testing.assert_allclose(found, losses)


@pytest.mark.parametrize(
    ("losses", "at"),
    [
        ([0.7] * 10 + [9.0] + [0.7] * 10, None),  # one bad batch
        ([0.7] * 10 + [12.0] * 10, 11),  # 0.95 · 0.7 + 0.05 · 12 = 1.27, 0.95 · 1.27 + 0.05 · 12 = 1.80 > 2 · 0.7
        ([5.0] * 3 + [9.0] * 60, None),  # a loss that is high from the start, by a regulariser
        ([0.7, math.inf], 1),
    ],
)
def test_training_losses_that_rise_far_above_the_start(losses, at):
    made = guard(0.5, 0.3, 0.5, 2, 100)
    made.on_epoch_begin(0)
    total = 0.0
    for step, loss in enumerate(losses):
        total += loss
        made.on_train_batch_end(step, {"loss": total / (step + 1)})
        assert bool(made.reason) == (at is not None and step >= at), step


def test_before_it_has_settled_a_network_may_become_worse_and_recover():
    made = DivergenceGuard({"accuracy": 0.9, "loss": 0.3}, {"accuracy": 0.5, "loss": 0.7}, math.log(2), 20, settled=2)
    made.set_model(SimpleNamespace(stop_training=False))
    for epoch, diverged in ((0, False), (1, True)):
        made.on_epoch_begin(epoch)
        made.on_train_batch_end(0, {"loss": 0.5})
        made.on_epoch_end(epoch, {"val_accuracy": 0.5, "val_crossentropy": 9.0})
        assert bool(made.reason) == diverged
    lost = DivergenceGuard({"accuracy": 0.9, "loss": 0.3}, {"accuracy": 0.5, "loss": 0.7}, math.log(2), 20, settled=9)
    lost.set_model(SimpleNamespace(stop_training=False))
    lost.on_epoch_end(0, {"val_accuracy": 0.5, "val_crossentropy": math.nan})
    assert lost.reason


def test_a_network_of_nan_is_never_the_better_one():
    """It names class 0 for every image, and that may be the right one more often than not."""
    scores = [{"accuracy": 0.8, "loss": math.nan}, {"accuracy": 0.75, "loss": 0.6}, {"accuracy": 0.9, "loss": math.inf}]
    assert max(scores, key=sort_key) == scores[1]


def test_a_restart_is_plain_values():
    restart = Restart(6, "the loss is NaN or infinite", 0.0012, 0.0003)
    assert Restart(**json.loads(json.dumps(restart.to_dict()))) == restart


def test_losses_before_it_has_settled_do_not_count_later():
    """Twenty steps at a loss of 30 and then at 0.1: an average over all would stay above the limit of 1.39 for 55 steps."""
    made = DivergenceGuard({"accuracy": 0.9, "loss": 0.3}, {"accuracy": 0.5, "loss": 0.7}, math.log(2), 20, settled=20)
    made.set_model(SimpleNamespace(stop_training=False))
    made.on_epoch_begin(0)
    losses = [0.5] + [30.0] * 19 + [0.1] * 10 + [30.0] * 10
    for step in range(len(losses)):
        made.on_train_batch_end(step, {"loss": float(np.mean(losses[: step + 1]))})
        assert bool(made.reason) == (step >= 30), step
