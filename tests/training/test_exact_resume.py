"""A job that is killed and started again ends as one that was never interrupted, bit for bit."""

import functools
import random
import subprocess
import sys
from collections import Counter, defaultdict, deque

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import resumable_job
from helpers.resumable_job import EPOCHS, STEPS, run

from keras_cnn.training import EMAWeights, ExactResume
from keras_cnn.training.checkpoints import Checkpoints

pytestmark = pytest.mark.usefixtures("seed_of_tensorflow")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A function of the kind of data: the result of a job that runs without interruption, and its folder."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    return functools.cache(lambda kind: (run(kind, folder / kind), folder / kind))


def killed(kind, folder, step):
    """A process that is killed after a step."""
    return subprocess.Popen(
        [sys.executable, resumable_job.__file__, kind, str(folder), str(step)], stderr=subprocess.DEVNULL
    )


def assert_same(found, expected):
    for one, other in zip(found[0], expected[0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert found[1:] == expected[1:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "step"),
    [
        ("pydataset", STEPS + 3),
        ("dataset", STEPS),  # between epochs
        ("function", 3 * STEPS),
    ],
)
def test_killed_and_started_again(kind, step, uninterrupted, tmp_path):
    assert killed(kind, tmp_path, step).wait() == -9
    assert_same(run(kind, tmp_path), uninterrupted(kind)[0])


@pytest.mark.slow
def test_killed_at_twenty_random_points(uninterrupted, tmp_path):
    steps = random.Random(0).sample(range(1, EPOCHS * STEPS), 20)
    for number, step in enumerate(steps):
        kind, folder = ("dataset", "pydataset", "function")[number % 3], tmp_path / str(step)
        assert killed(kind, folder, step).wait() == -9
        assert_same(run(kind, folder), uninterrupted(kind)[0])


@pytest.mark.slow
def test_a_finished_job_is_not_trained_again(uninterrupted, tmp_path):
    first = run("function", tmp_path)
    assert_same(run("function", tmp_path), first)
    assert_same(first, uninterrupted("function")[0])


@pytest.mark.slow
def test_a_damaged_checkpoint_is_skipped(uninterrupted, tmp_path):
    assert killed("dataset", tmp_path, STEPS + 2).wait() == -9
    newest = max(tmp_path.glob("*.npz"), key=lambda path: int(path.stem))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged"):
        found = run("dataset", tmp_path)
    assert_same(found, uninterrupted("dataset")[0])


@pytest.mark.slow
def test_another_job_is_refused(uninterrupted):
    _, folder = uninterrupted("pydataset")
    with pytest.raises(ValueError, match=r"initial_learning_rate is 0\.02, was 0\.01"):
        run("pydataset", folder, rate=0.02)


def test_fit_must_get_the_resumable_data(tmp_path):
    resume, model = ExactResume(tmp_path), resumable_job.model()
    with pytest.raises(ValueError, match=r"resume\.data\(dataset\)"):
        model.fit(resumable_job.data("dataset"), shuffle=False, callbacks=[resume], verbose=0)
    with pytest.raises(ValueError, match=r"ExactResume\.data: `dataset` must be"):
        resume.data(np.zeros(3))
    with pytest.raises(ValueError, match="seconds"):
        ExactResume(tmp_path, seconds=-1)


def test_checkpoints_keep_two_and_all_types(tmp_path):
    import ml_dtypes

    checkpoints = Checkpoints(tmp_path / "new")
    assert checkpoints.load() is None
    arrays = [np.arange(3.0), np.array(1.5, ml_dtypes.bfloat16), np.array(2, "uint32"), np.zeros((0, 2))]
    for number in range(4):
        checkpoints.save(arrays, {"number": number})
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["3.json", "3.npz", "4.json", "4.npz"]
    found, state = checkpoints.load()
    assert state == {"number": 3}
    for one, other in zip(found, arrays, strict=True):
        assert one.dtype == other.dtype and np.array_equal(one, other)


def test_a_full_disk_keeps_the_older_checkpoint(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save([np.ones(2)], {"number": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save([np.ones(2)], {"number": 2})
    monkeypatch.undo()
    assert checkpoints.load()[1] == {"number": 1} and not list(tmp_path.glob("*.part"))


# Callbacks with state

ROUNDS = 7
RANDOM = np.random.default_rng(0)
VECTORS, CLASSES = RANDOM.normal(size=(12, 4)).astype("float32"), RANDOM.integers(0, 3, 12)


class Interruption(keras.callbacks.Callback):
    """Like Ctrl-C at an event of an epoch, or of a batch in it."""

    def __init__(self, event, epoch, batch=None):
        super().__init__()
        self.when, self.epoch = (event, epoch, batch), None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.check("on_epoch_begin", epoch, None)

    def on_train_batch_end(self, batch, logs=None):
        self.check("on_train_batch_end", self.epoch, batch)

    def on_epoch_end(self, epoch, logs=None):
        self.check("on_epoch_end", epoch, None)

    def check(self, *when):
        if when == self.when:
            raise KeyboardInterrupt


class Helper:
    """An object of a custom class."""

    def __init__(self):
        self.calls = 0


class Stateful(keras.callbacks.Callback):
    """Keeps state of many kinds, and changes a weight by all of it."""

    def __init__(self):
        super().__init__()
        self.random, self.recent, self.kinds = np.random.default_rng(3), deque(maxlen=2), Counter()
        self.of_epoch, self.seen, self.helper, self.choose = defaultdict(list), set(), Helper(), None
        self.count, self.mean, self.pair = tf.Variable(0), keras.metrics.Mean(), (0, [0])

    def on_train_begin(self, logs=None):
        self.start = self.model.get_weights()[0].sum()
        self.nested = {"best": {"loss": np.float32(np.inf)}, 1: None}
        self.scale = keras.Variable(1.0)

    def on_train_batch_end(self, batch, logs=None):
        self.count.assign_add(1)
        self.mean.update_state(logs["loss"])
        self.recent.append(logs["loss"])

    def on_epoch_end(self, epoch, logs=None):
        if self.choose is None:  # as Keras does
            self.choose, self.step = np.minimum, 1e-3
        self.step *= -1
        self.nested["best"]["loss"] = self.choose(self.nested["best"]["loss"], np.float32(logs["val_loss"]))
        self.nested[epoch] = tf.constant([epoch, 1])
        self.of_epoch[epoch % 2].append(logs["loss"])
        self.seen.add(epoch % 3)
        self.kinds.update("ab"[epoch % 2])
        self.helper.calls += 1
        self.scale.assign(self.scale * 0.9)
        self.pair = (self.pair[0] + 1, [*self.pair[1], epoch])
        self.model.layers[-1].bias.assign_add([self.total(), 0, 0])

    def total(self):
        numbers = [self.start, self.count, self.mean.result(), self.nested["best"]["loss"], self.scale, self.step]
        numbers += [
            *self.recent,
            len(self.seen),
            self.kinds["a"],
            self.helper.calls,
            self.random.random(),
            len(self.pair[1]),
        ]
        numbers += [
            sum(self.of_epoch[1]),
            sum(np.sum(value) for key, value in self.nested.items() if key not in (1, "best")),
        ]
        return self.step * float(sum(map(float, numbers)))


def train_with_state(folder, stop=(), order=lambda resume, others: [resume, *others]):
    """Train with stateful callbacks; `stop` interrupts. Returns everything that could differ, or None after an interruption."""
    keras.utils.set_random_seed(1)
    examples = tf.data.Dataset.from_tensor_slices((VECTORS, CLASSES))
    data, validation = examples.shuffle(12, seed=5).batch(4), examples.batch(4)
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    network.compile(
        keras.optimizers.SGD(0.5, momentum=0.9, use_ema=True, ema_momentum=0.5),
        "sparse_categorical_crossentropy",
        run_eagerly=True,
    )
    best, scheduler = f"{folder}-best.weights.h5", keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.9 * rate)
    others = [
        keras.callbacks.ReduceLROnPlateau(patience=1, min_delta=0.3, cooldown=1),
        keras.callbacks.EarlyStopping("loss", patience=3, min_delta=0.001, restore_best_weights=True),
        keras.callbacks.ModelCheckpoint(best, save_best_only=True, save_weights_only=True, mode="min"),
        Stateful(),
    ]
    resume = ExactResume(folder, seconds=0, callbacks=others)
    callbacks = [*order(resume, [scheduler, *others, EMAWeights()]), *stop]
    try:
        history = network.fit(
            resume.data(data), validation_data=validation, epochs=ROUNDS, callbacks=callbacks, shuffle=False, verbose=0
        )
    except KeyboardInterrupt:
        return None
    plateau, early, checkpoint, user = others
    uninterrupted_state = [
        plateau.min_delta,
        plateau.best,
        plateau.wait,
        plateau.monitor_op,
        early.best,
        early.best_epoch,
        early.wait,
    ]
    uninterrupted_state += [
        checkpoint.best,
        user.seen,
        user.kinds,
        user.pair,
        list(user.recent),
        dict(user.of_epoch),
        user.helper.calls,
    ]
    variables = network.get_weights(), [np.array(value) for value in network.optimizer.variables]
    network.load_weights(best)
    return history.history, uninterrupted_state, variables, network.get_weights()


@pytest.fixture(scope="module")
def uninterrupted_state(tmp_path_factory):
    """The result without an interruption."""
    return train_with_state(tmp_path_factory.mktemp("whole") / "job")


INTERRUPTIONS = {
    "twice": [("on_train_batch_end", 1, 1), ("on_epoch_begin", 4)],
    "three times": [("on_epoch_begin", 1), ("on_train_batch_end", 1, 0), ("on_train_batch_end", 1, 1)],
    "between epochs": [("on_epoch_begin", 2)],
    "at the end of an epoch": [("on_epoch_end", 3)],
    "in the first epoch": [("on_train_batch_end", 0, 1)],
    "within an epoch": [("on_train_batch_end", 4, 1)],
    "at its last batch": [("on_train_batch_end", 2, 2)],
}
QUICK = ("twice",)
CASES = [
    pytest.param(stops, id=case, marks=[] if case in QUICK else pytest.mark.slow)
    for case, stops in INTERRUPTIONS.items()
]


@pytest.mark.parametrize("stops", CASES)
def test_the_state_of_callbacks_survives(stops, uninterrupted_state, tmp_path):
    for when in stops:
        assert train_with_state(tmp_path / "job", [Interruption(*when)]) is None
    assert_equal(train_with_state(tmp_path / "job"), uninterrupted_state)


def test_the_callbacks_of_that_job_do_act(uninterrupted_state):
    history, (min_delta, _, _, compare, _, best_epoch, _, *_), _, _ = uninterrupted_state
    rates = np.array(history["learning_rate"])
    assert len(set(np.round(rates[1:] / rates[:-1], 3))) > 1  # the plateau, not the schedule alone
    assert min_delta == -0.3 and compare is keras.ops.less and 0 < best_epoch < len(rates) - 1
    assert 0 < np.argmin(history["val_loss"]) < len(rates) - 1


@pytest.mark.slow
@pytest.mark.parametrize("when", [("on_epoch_begin", 2), ("on_train_batch_end", 4, 1)])
def test_a_schedule_before_it_is_not_applied_twice(when, tmp_path):
    def order(resume, others):
        return [others[0], resume, *others[1:]]

    whole = train_with_state(tmp_path / "whole", order=order)
    assert train_with_state(tmp_path / "job", [Interruption(*when)], order) is None
    assert_equal(train_with_state(tmp_path / "job", order=order), whole)


@pytest.mark.slow
def test_a_finished_job_with_callbacks_stays_the_same(uninterrupted_state, tmp_path):
    train_with_state(tmp_path / "job")
    assert_equal(train_with_state(tmp_path / "job"), uninterrupted_state)


def assert_equal(found, expected):
    assert found[:2] == expected[:2]
    for one, other in zip(keras.tree.flatten(found[2:]), keras.tree.flatten(expected[2:]), strict=True):
        np.testing.assert_array_equal(one, other)


def small_job(folder, *callbacks, kept=(), epochs=3, stop=None):
    """A job in which only the callbacks matter."""
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    network.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    resume = ExactResume(folder, seconds=0, callbacks=kept)
    callbacks = [resume, *callbacks, *([Interruption(*stop)] if stop else [])]
    data = resume.data(tf.data.Dataset.from_tensor_slices((VECTORS, CLASSES)).batch(4))
    network.fit(data, epochs=epochs, callbacks=callbacks, shuffle=False, verbose=0)
    return network


def test_an_unsupported_attribute_is_reported_once(tmp_path):
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv", append=True)
    with pytest.warns(UserWarning) as caught:
        small_job(tmp_path / "job", logger, kept=[logger])
    (warning,) = (warning for warning in caught if warning.category is UserWarning)
    assert str(warning.message).startswith("ExactResume: what changes in `callbacks` must be plain values")
    assert "CSVLogger, whose `writer` has changed and holds an object of class DictWriter" in str(warning.message)


def test_attributes_of_on_train_begin_and_constant_ones_are_neither_saved_nor_reported(tmp_path):
    class Opening(keras.callbacks.Callback):
        def __init__(self, path, patience):
            super().__init__()
            self.path, self.patience, self.lines, self.decide = path, patience, 0, lambda x: x

        def on_train_begin(self, logs=None):
            self.file = open(self.path, "a")

        def on_epoch_end(self, epoch, logs=None):
            self.lines += 1
            print(self.lines, file=self.file, flush=True)

        def on_train_end(self, logs=None):
            self.file.close()

    callback = Opening(tmp_path / "log", 1)
    with pytest.raises(KeyboardInterrupt):
        small_job(tmp_path / "job", callback, kept=[callback], stop=("on_epoch_begin", 2))
    callback.file.close()
    callback = Opening(tmp_path / "log", 2)
    small_job(tmp_path / "job", callback, kept=[callback])
    assert callback.lines == 3 and (tmp_path / "log").read_text().split() == ["1", "2", "2", "3"]
    assert callback.patience == 2  # the value in the script now


def test_skipped_steps_show_callbacks_the_metrics_of_the_checkpoint(tmp_path):
    class Look(keras.callbacks.Callback):
        losses = ()

        def on_train_batch_end(self, batch, logs=None):
            self.losses = [*self.losses, logs["loss"]]

    before, after = Look(), Look()
    with pytest.raises(KeyboardInterrupt):
        small_job(tmp_path, before, epochs=1, stop=("on_train_batch_end", 0, 1))
    small_job(tmp_path, after, epochs=1)
    assert len(after.losses) == 3 and after.losses[:2] == [before.losses[1]] * 2


def test_a_callback_that_changes_the_trained_variables_is_reported(tmp_path):
    class Grow(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.compile(keras.optimizers.Adam(), self.model.loss, run_eagerly=True)
                self.model.optimizer.build(self.model.trainable_variables)
                self.model.make_train_function()

    with pytest.raises(KeyboardInterrupt):
        small_job(tmp_path, Grow(), stop=("on_epoch_begin", 2))
    with pytest.raises(ValueError, match=r"^ExactResume: a model must have the variables of its checkpoint"):
        small_job(tmp_path)
