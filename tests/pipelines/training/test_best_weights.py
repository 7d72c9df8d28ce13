"""Training with every setting: the best weights, averages, exact resume, memory."""

import math
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_cnn as kc
from pipelines import defaults
from pipelines.datasets.feature_batches import FeatureBatches, to_one_hot
from pipelines.errors import TrainingError
from pipelines.training import restarts
from pipelines.training.best_weights import RestoreBestWeights
from pipelines.training.restarts import Start, fit_with_restarts
from pipelines.training.task import MultiLabel, SingleLabel


def trained(tmp_path, activations, callbacks=(), before=(), **options):
    model = keras.Sequential([keras.Input((4,)), *before, keras.layers.Dense(2, activation="softmax")])
    network = kc.Backbone(model, (), kc.Preprocessing(4), "made here")
    chosen = defaults.choose(network, 8, **{"train": "all", "epochs": 2, "batch_size": 4, **options})
    targets = to_one_hot(np.arange(8) % 2, 2)
    batches = FeatureBatches([activations], targets, chosen.batch_size, seed=0)
    start = {"accuracy": 0.0, "loss": 9.0}
    begin = Start(SingleLabel(2), start, start, 8)
    return fit_with_restarts(model, batches, (np.zeros((8, 4)), targets), begin, chosen, tmp_path, callbacks)


class Devouring(keras.layers.Layer):
    """Takes a petabyte for each example."""

    def call(self, inputs):
        enormous = tf.fill((tf.shape(inputs)[0], 2**24, 2**24), tf.reduce_mean(inputs))
        return inputs + tf.reduce_mean(enormous)


class Exhausted(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


@pytest.mark.parametrize(
    ("batch", "accumulate", "told"),
    [
        (4, 1, "A batch of 4 images needs .* with --restart and --batch-size 2 --gradient-accumulation-steps 2"),
        (3, 2, "A batch of 3 images needs .* with --restart and --batch-size 1 --gradient-accumulation-steps 6"),
        (1, 1, "A batch of 1 image needs .* with --restart and a smaller --size, or --train last"),
    ],
)
def test_where_memory_gives_out_a_smaller_batch_is_named(tmp_path, batch, accumulate, told):
    with pytest.raises(TrainingError, match=f"^{told}\\.$"):
        trained(
            tmp_path,
            np.ones((8, 4), "float16"),
            [Exhausted()],
            batch_size=batch,
            gradient_accumulation_steps=accumulate,
        )


@pytest.mark.slow  # TensorFlow waits ten seconds before it gives up
def test_memory_that_really_gives_out_is_told(tmp_path):
    with pytest.raises(TrainingError, match=r"^A batch of 4 images needs more memory than there is"):
        trained(tmp_path, np.ones((8, 4), "float16"), before=[Devouring()])


def test_the_history_and_the_best_epoch(tmp_path):
    fitted = trained(tmp_path, np.ones((8, 4), "float16"))
    history = fitted.history
    assert (
        fitted.restarts == ()
        and len(history) == 2
        and {"loss", "accuracy", "val_accuracy", "val_crossentropy"} <= history[0].keys()
    )
    assert fitted.best == {"accuracy": 0.5, "loss": min(epoch["val_crossentropy"] for epoch in history)}
    # The same job again finds itself done, and knows what it had found.
    assert trained(tmp_path, np.ones((8, 4), "float16")) == fitted


@pytest.mark.slow
def test_the_score_of_the_start_is_what_training_says_of_the_same_weights(tmp_path):
    """With a learning rate of next to nothing: the linear probe and every epoch are measured alike."""
    random = np.random.default_rng(0)
    activations = random.normal(size=(60, 4)).astype("float32")
    several = (activations[:, :3] + random.normal(size=(60, 3)) > 0).astype(int)
    one = several.sum(1) % 3
    for objective, targets, ending in ((SingleLabel(3), one, "softmax"), (MultiLabel(3), several, "sigmoid")):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation=ending)])
        start = objective.score(model.predict(activations, verbose=0), targets)
        network = kc.Backbone(model, (), kc.Preprocessing(4), "made here")
        chosen = defaults.choose(network, 60, train="all", epochs=1, learning_rate=1e-30)
        rows = to_one_hot(targets, 3)
        folder = tmp_path / ending
        folder.mkdir()
        batches = FeatureBatches([activations], rows, 32, seed=0)
        begin = Start(objective, start, objective.chance(targets, targets), 60)
        best = fit_with_restarts(model, batches, (activations, rows), begin, chosen, folder).best
        assert best == pytest.approx(start, rel=1e-4) and best.keys() == start.keys()


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_average_keeps_its_share_an_update_however_many_steps_that_takes(accumulate):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    network = kc.Backbone(model, (), kc.Preprocessing(4), "made here")
    more = {"optimizer": "sgd", "ema_momentum": 0.75, "weight_decay": 0.0, "gradient_accumulation_steps": accumulate}
    optimizer = restarts.make_optimizer(model, 10, defaults.choose(network, 8, train="all", epochs=1, **more))
    for weight in (1.0, 5.0):
        model.layers[0].kernel.assign([[weight]])
        for _ in range(accumulate):
            optimizer.apply([tf.zeros((1, 1))], model.trainable_variables)
    assert optimizer._model_variables_moving_average[0].numpy().item() == pytest.approx(0.75 * 1 + 0.25 * 5)


EVERYTHING = {
    "optimizer": "sgd",
    "layer_decay": 0.9,
    "ema_momentum": 0.8,
    "global_clipnorm": 0.01,
    "gradient_accumulation_steps": 3,
    "patience": 9,
}


@pytest.mark.slow
@pytest.mark.parametrize("place", [3, 4, 11])
def test_with_every_setting_an_interrupted_training_goes_on_to_the_bit(tmp_path, place):
    activations = np.random.default_rng(0).normal(size=(8, 4)).astype("float16")

    class Interruption(keras.callbacks.Callback):
        steps = 0

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1
            if self.steps == place:
                raise KeyboardInterrupt

    class Weights(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            self.found = self.model.get_weights()

    def job(folder, *callbacks):
        folder.mkdir(exist_ok=True)
        keras.utils.set_random_seed(0)
        weights = Weights()
        return trained(folder, activations, [*callbacks, weights], epochs=8, batch_size=4, **EVERYTHING), weights

    whole, expected = job(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        job(tmp_path / "cut", Interruption())
    assert any((tmp_path / "cut" / "checkpoints").iterdir())
    assert job(tmp_path / "cut")[0] == whole
    resumed = job(tmp_path / "cut")[1]
    for one, other in zip(resumed.found, expected.found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_training_ends_when_it_has_lost_patience(tmp_path):
    """Nothing can be learned of zeros: the loss on validation rises from the start on."""
    history = trained(tmp_path, np.zeros((8, 4), "float16"), epochs=9, learning_rate=1e-30, patience=2).history
    assert len(history) == 3


class Places(keras.callbacks.Callback):
    """Ends training before a step, and remembers the weights that a training ends with."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.left = stop_at

    def on_train_batch_begin(self, batch, logs=None):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt

    def on_train_end(self, logs=None):
        self.found = self.model.get_weights()


# At this rate the network is best after the second of five epochs, as one sees in the history.
BEST_IS_THE_SECOND = {
    "epochs": 5,
    "learning_rate": 3.0,
    "batch_size": 4,
    "optimizer": "sgd",
    "warmup_fraction": 0.0,
    "global_clipnorm": 0.0,
}


def best_of_five(folder, stop_at=None):
    """What a training gives whose best weights are those of an epoch long before its end."""
    folder.mkdir(exist_ok=True)
    keras.utils.set_random_seed(0)
    activations, places = np.random.default_rng(0).normal(size=(8, 4)).astype("float16"), Places(stop_at)
    fitted = trained(folder, activations, [places], **BEST_IS_THE_SECOND)
    assert not fitted.restarts
    return fitted.history, fitted.best, [weight.tolist() for weight in places.found]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A training that was stopped in its last epoch, long after its best, and what it gives if it is not."""
    folder = tmp_path_factory.mktemp("best")
    whole = best_of_five(folder / "whole")
    losses = [epoch["val_crossentropy"] for epoch in whole[0]]
    assert losses.index(min(losses)) < 3
    with pytest.raises(KeyboardInterrupt):
        best_of_five(folder / "cut", stop_at=9)
    return folder / "cut", whole


@pytest.mark.slow
def test_the_best_weights_come_back_with_the_checkpoint(interrupted, tmp_path):
    cut, whole = interrupted
    shutil.copytree(cut, tmp_path / "copy")
    assert best_of_five(tmp_path / "copy") == whole


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".npz", ".json"])
@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"),
    ],
    ids=["missing", "empty", "a byte"],
)
def test_whatever_file_of_a_job_is_lost_the_best_weights_are_never_others(interrupted, tmp_path, suffix, damage):
    cut, whole = interrupted
    files = [path.relative_to(cut) for path in sorted(cut.rglob("*" + suffix))]
    assert files
    for number, file in enumerate(files):
        copy = shutil.copytree(cut, tmp_path / str(number))
        damage(copy / file)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*is damaged.*is skipped")
            assert best_of_five(copy) == whole


@pytest.mark.slow
def test_a_copy_of_an_unfinished_job_is_one_of_its_own(interrupted, tmp_path):
    """It resumes without the original, and without a change to it: no file says where it lies."""
    cut, whole = interrupted
    original, copy = tmp_path / "original", tmp_path / "copy"
    shutil.copytree(cut, original)
    shutil.copytree(cut, copy)
    files = {path: path.read_bytes() for path in cut.rglob("*") if path.is_file()}
    assert files and not any(str(cut.parent).encode() in content for content in files.values())
    assert best_of_five(copy) == whole
    assert {path: path.read_bytes() for path in cut.rglob("*") if path.is_file()} == files
    original.rename(tmp_path / "moved")
    assert best_of_five(tmp_path / "moved") == whole
    assert not original.exists()


class Weights:
    """A stand-in for a model: its weights are whatever was set last."""

    stop_training = False

    def __init__(self):
        self.value = "start"

    def get_weights(self):
        return [np.array(self.value)]

    def set_weights(self, value):
        self.value = str(value[0])


@pytest.mark.parametrize(
    ("start", "epochs", "kept"),
    [
        ((0.5, 1.0), [(0.6, 1.0), (0.8, 0.9), (0.8, 0.7), (0.7, 0.1)], "epoch 3"),  # accuracy first, then the loss
        ((0.9, 1.0), [(0.6, 0.1), (0.8, 0.1)], "start"),
        (
            (0.75, 1.0),
            [(0.9, math.nan), (0.8, math.inf)],
            "start",
        ),  # NaN everywhere names class 0, which may be frequent
        ((0.5, 1.0), [(0.5, 1.0)], "start"),
    ],
)
def test_the_best_weights_stay(start, epochs, kept, tmp_path):
    keeper = RestoreBestWeights(dict(zip(("accuracy", "loss"), start, strict=True)))
    model = Weights()
    keeper.set_model(model)
    keeper.on_train_begin()
    for number, (accuracy, loss) in enumerate(epochs, 1):
        model.value = f"epoch {number}"
        keeper.on_epoch_end(number, {"val_accuracy": accuracy, "val_crossentropy": loss})
    keeper.on_train_end()
    assert model.value == kept
    assert keeper.best["accuracy"] == max(accuracy for accuracy, _ in epochs)


def test_with_several_labels_the_mean_average_precision_decides(tmp_path):
    keeper, model = RestoreBestWeights({"mean_average_precision": 0.5, "loss": 0.1}), Weights()
    keeper.set_model(model)
    keeper.on_train_begin()
    for epoch, (precision, loss) in {"first": (0.6, 0.4), "second": (0.6, 0.3), "third": (0.55, 0.1)}.items():
        model.value = epoch
        keeper.on_epoch_end(0, {"val_mean_average_precision": precision, "val_crossentropy": loss})
    keeper.on_train_end()
    assert model.value == "second" and keeper.best == {"mean_average_precision": 0.6, "loss": 0.3}


def test_an_epoch_in_which_training_diverged_is_not_kept_however_accurate_it_was():
    model, start = Weights(), {"accuracy": 0.5, "loss": 1.0}
    guard = SimpleNamespace(reason=None)
    keeper = RestoreBestWeights(start, guard=guard)
    keeper.set_model(model)
    keeper.on_train_begin()
    model.value, guard.reason = "diverged", "the loss is NaN"
    keeper.on_epoch_end(0, {"val_accuracy": 0.9, "val_crossentropy": 40.0})
    keeper.on_train_end()
    assert model.value == "start" and keeper.restored == start


def test_the_last_epoch_is_kept_where_validation_images_are_learned_from_unless_it_diverged():
    keeper, model = RestoreBestWeights({"accuracy": 0.9, "loss": 0.1}, keep_last=True), Weights()
    keeper.set_model(model)
    keeper.on_train_begin()
    for epoch, loss in enumerate((0.01, 0.5, math.nan), 1):
        model.value = str(epoch)
        keeper.on_epoch_end(epoch, {"val_accuracy": 0.5, "val_crossentropy": loss})
    keeper.on_train_end()
    assert model.value == "2" and keeper.restored == {"accuracy": 0.5, "loss": 0.5}
