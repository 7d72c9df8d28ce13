"""A job resumes only with the model and data that it began with; differences that do not matter are ignored."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.slow import mark_slow

from keras_cnn.training import ExactResume, resumable_data
from keras_cnn.training.job_identity import check_same, describe

L = keras.layers
RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(32, 4)).astype("float32"), np.arange(32) % 3


def sequential(activation="relu", **options):
    return keras.Sequential([keras.Input((4,)), L.Dense(8, activation, **options), L.Dropout(0.5), L.Dense(3)])


def branches(swapped=False, **add):
    """Two branches of equal layers; `swapped` joins them in the other order."""
    x = keras.Input((4,))
    a, b = L.Dense(4)(x), L.Dense(4)(x)
    c = L.Dense(4)(a)
    joined = L.Subtract(**add)([b, c] if swapped else [c, b])
    return keras.Model(x, keras.ops.multiply(joined, 2.0))


def nested(rate=0.1, activation="relu", trainable=(True, False)):
    inner = keras.Sequential([keras.Input((4,)), L.Dense(4, activation), L.Dropout(rate), L.Dense(4)])
    for layer, state in zip((inner.layers[0], inner.layers[2]), trainable, strict=True):
        layer.trainable = state
    return keras.Sequential([keras.Input((4,)), inner, L.Dense(3)])


class Subclassed(keras.Model):
    """A model without a config."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.build((None, 4))

    def build(self, shape):
        self.layer.build(shape)
        self.built = True

    def call(self, x):
        return self.layer(x)


def custom_loss(truth, found):
    return keras.ops.mean(keras.ops.square(found - truth))


def job(model, optimizer="adam", loss="mse", data=None, settings=None, **options):
    """The description of a job in its checkpoint."""
    model.compile(optimizer, loss, **options)
    source = resumable_data.source(slices() if data is None else data)
    return json.loads(json.dumps(describe(model, source.description, settings or {})))


def slices(x=X, y=Y, batch=8):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(batch)


SCALED = keras.optimizers.LossScaleOptimizer
SAME = {
    "sequential": lambda: job(sequential()),
    "functional": lambda: job(branches()),
    "nested": lambda: job(nested()),
    "subclass": lambda: job(Subclassed(L.Dense(3))),
    "loss scale": lambda: job(sequential(), SCALED(keras.optimizers.Adam())),
    "loss scale twice": lambda: job(sequential(), SCALED(SCALED(keras.optimizers.Adam(name="adam_7")))),
    "loss of the user's": lambda: job(sequential(), loss=custom_loss),
    "lambda": lambda: job(sequential(lambda x: x + 1), loss=lambda truth, found: found),
    "list of losses": lambda: job(sequential(), loss=[custom_loss]),
    "mixed precision": lambda: job(sequential(dtype="mixed_float16")),
    "augmentation": lambda: job(
        keras.Sequential([keras.Input((8, 8, 3)), L.RandomFlip(), L.RandomRotation(0.1), L.GaussianNoise(0.1)])
    ),
    "metrics": lambda: job(sequential(), metrics=[keras.metrics.MeanSquaredError(), custom_loss]),
    "an object in settings": lambda: job(sequential(), settings={"where": object()}),
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_job_is_accepted(case):
    check_same(SAME[case](), SAME[case]())


def regularized():
    return sequential(kernel_regularizer=keras.regularizers.L2(1e-3))


OTHERS = {
    "activation": (
        lambda: job(sequential()),
        lambda: job(sequential("tanh")),
        r"1 \(dense\) activation is 'tanh', was 'relu'",
    ),
    "activation within": (
        lambda: job(nested()),
        lambda: job(nested(activation="tanh")),
        r"activation is 'tanh', was 'relu'",
    ),
    "dropout": (lambda: job(nested()), lambda: job(nested(rate=0.2)), r"\(dropout\) rate is 0\.2, was 0\.1"),
    "regularizer": (lambda: job(sequential()), lambda: job(regularized()), r"layer 1 \(dense\) rest is"),
    "precision": (
        lambda: job(sequential()),
        lambda: job(sequential(dtype="mixed_float16")),
        r"layer 1 \(dense\) rest is",
    ),
    "what is frozen": (
        lambda: job(nested()),
        lambda: job(nested(trainable=(False, True))),
        "trainable is False, was True",
    ),
    "connections": (lambda: job(branches()), lambda: job(branches(swapped=True)), "model connections is"),
    "layer of a subclass": (
        lambda: job(Subclassed(L.Dense(3))),
        lambda: job(Subclassed(L.Dense(3, "relu"))),
        "activation is 'relu', was 'linear'",
    ),
    "optimizer in a loss scale": (
        lambda: job(sequential(), SCALED(keras.optimizers.SGD(0.1))),
        lambda: job(sequential(), SCALED(keras.optimizers.SGD(0.2))),
        r"inner_optimizer config learning_rate is 0\.2",
    ),
    "loss": (lambda: job(sequential()), lambda: job(sequential(), loss=custom_loss), "loss"),
    "metrics": (lambda: job(sequential()), lambda: job(sequential(), metrics=["mae"]), "metrics"),
    "steps per execution": (
        lambda: job(sequential()),
        lambda: job(sequential(), steps_per_execution=2),
        "steps per execution is 2, was 1",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_job_is_refused_with_the_difference(case):
    old, new, expected = OTHERS[case]
    with pytest.raises(ValueError, match=rf"^ExactResume: a job resumes with .* difference.*{expected}"):
        check_same(old(), new())


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 4

    def __getitem__(self, index):
        rows = slice(8 * index, 8 * index + 8)
        return {"image": self.x[rows]}, self.y[rows]


def from_position(x, y):
    return lambda epoch, step: slices(x, y).skip(step)


def generated(x, y):
    signature = (tf.TensorSpec((4,)), tf.TensorSpec((), tf.int64))
    return tf.data.Dataset.from_generator(lambda: zip(x, y, strict=True), output_signature=signature).batch(8)


def zipped(x, y):
    parts = [tf.data.Dataset.from_tensor_slices(part) for part in (x, y)]
    return tf.data.Dataset.zip(*parts).shuffle(32, seed=1).repeat(2).batch(8).prefetch(1)


SOURCES = {
    "batched": slices,
    "shuffled": lambda x, y: slices(x, y, 1).unbatch().shuffle(32, seed=1).batch(8),
    "labels made by a map": lambda x, y: (
        tf.data.Dataset.from_tensor_slices((x, y)).map(lambda x, y: (x, y + 1)).batch(8)
    ),
    "cached": lambda x, y: slices(x, y).cache().shuffle(4, seed=1),
    "shuffled before it is zipped": zipped,
    "names": lambda x, y: tf.data.Dataset.from_tensor_slices((x, np.char.mod("name %d", y))).batch(8),
    "ragged": lambda x, y: slices(tf.RaggedTensor.from_row_lengths(x.ravel(), np.tile([3, 5], 16)), y),
    "generator": generated,
    "one-hot": lambda x, y: slices(x, np.eye(4, dtype="float32")[y]),
    "PyDataset": Batches,
    "function": from_position,
}


QUICK = ("batched", "shuffled", "PyDataset", "function")


@pytest.mark.parametrize("kind", mark_slow(SOURCES, except_for=QUICK))
def test_other_labels_or_images_are_refused(kind):
    make = SOURCES[kind]
    old = job(sequential(), data=make(X, Y))
    check_same(old, job(sequential(), data=make(X, Y)))
    last = np.append(Y[:-1], Y[-1] + 1)
    for x, y in ((X, (Y + 1) % 3), (X, RANDOM.permutation(Y)), (X, last), (RANDOM.permutation(X), Y), (X + 0.5, Y)):
        with pytest.raises(ValueError, match=r"data values .* give what is random a seed\. Name an empty directory"):
            check_same(old, job(sequential(), data=make(x, y)))


def test_another_map_after_batches_is_refused():
    old = job(sequential(), data=slices())
    with pytest.raises(ValueError, match="data values 1 is"):
        check_same(old, job(sequential(), data=slices().map(lambda x, y: (x, (y + 1) % 3))))


def test_the_rounding_of_another_processor_is_accepted():
    rounded = tf.cast(tf.cast(X, tf.bfloat16), tf.float32).numpy()
    assert (rounded != X).any()
    check_same(job(sequential(), data=slices()), job(sequential(), data=slices(rounded)))


def test_reading_the_data_does_not_change_their_order():
    def shuffled():
        return tf.data.Dataset.range(32).shuffle(32, seed=7).batch(8)

    looked, plain = shuffled(), shuffled()
    resumable_data.source(looked).description
    for _ in range(2):
        assert [batch.tolist() for batch in looked.as_numpy_iterator()] == [
            batch.tolist() for batch in plain.as_numpy_iterator()
        ]


def test_only_the_first_elements_are_read():
    read = []

    def note(number):
        read.append(int(number))
        return np.uint8(0)

    def elements():
        for number in range(10_000):
            read.append(number)
            yield np.zeros(100, "uint8"), number

    signature = (tf.TensorSpec(100, tf.uint8), tf.TensorSpec((), tf.int64))
    resumable_data.source(tf.data.Dataset.from_generator(elements, output_signature=signature)).description
    assert 256 <= len(read) < 300
    read.clear()
    large = tf.data.Dataset.range(100).map(
        lambda n: tf.zeros([2**22], tf.uint8) + tf.numpy_function(note, [n], tf.uint8)
    )
    resumable_data.source(large).description
    assert 2 <= len(read) <= 8  # of 4 MiB each, and some that TensorFlow reads ahead


def test_fit_refuses_another_activation_and_other_labels_and_accepts_the_same_again(tmp_path):
    def fit(activation="relu", labels=Y):
        keras.utils.set_random_seed(0)
        model, resume = sequential(activation), ExactResume(tmp_path)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(SCALED(keras.optimizers.Adam()), loss, run_eagerly=True)
        model.fit(resume.data(slices(X, labels)), epochs=1, shuffle=False, verbose=0, callbacks=[resume])
        return model.get_weights()

    first = fit()
    for options, expected in (
        ({"activation": "tanh"}, "activation is 'tanh'"),
        ({"labels": (Y + 1) % 3}, "data values 1"),
    ):
        with pytest.raises(ValueError, match=expected):
            fit(**options)
    for one, other in zip(fit(), first, strict=True):
        np.testing.assert_array_equal(one, other)
