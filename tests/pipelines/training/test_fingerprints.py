"""Two networks have one digest if they are the same, and two if they are not: the key of what is kept of them."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from pipelines.training.fingerprints import network_digest

FACTOR = 2.0


class Gain(layers.Layer):
    """Whose options are plain."""

    def __init__(self, gain=1.0, **kwargs):
        super().__init__(**kwargs)
        self.gain = gain

    def call(self, x):
        return self.gain * x


class Secretive(layers.Layer):
    """Which cannot be saved: Keras finds no configuration."""

    def __init__(self, *args, **kwargs):
        super().__init__(**kwargs)
        self.factor = args[0]

    def call(self, x):
        return self.factor * x


class Composite(layers.Layer):
    def __init__(self, activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Conv2D(4, 1, activation=activation)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)

    def get_config(self):  # forgets its option
        return super().get_config()


class Code(keras.Model):
    def __init__(self, activation):
        super().__init__()
        self.inner = layers.Conv2D(4, 1, activation=activation)

    def call(self, x):
        return self.inner(x)


def double(x):
    return FACTOR * x


def square(x):
    return x * x


def halving(x):
    return x / 2


def thirds(x):
    return x / 3


halving.__name__ = thirds.__name__ = halving.__qualname__ = thirds.__qualname__ = "part"


def chain(*steps, shape=(8, 8, 3), name=None):
    x = inputs = keras.Input(shape)
    for step in steps:
        x = step(x)
    return keras.Model(inputs, x, name=name)


def conv(**options):
    return layers.Conv2D(3, 3, **{"padding": "same", **options})


def joined(order):
    """A difference; `order` says what is subtracted from what."""
    image = keras.Input((8, 8, 3))
    terms = [layers.Conv2D(3, 1)(image), layers.ReLU()(layers.Conv2D(3, 1)(image))]
    return keras.Model(image, layers.Subtract()(terms if order else terms[::-1]))


def shared(twice):
    image = keras.Input((8, 8, 3))
    first, second = conv(), conv()
    return keras.Model(image, layers.Add()([(first if twice else second)(first(image)), second(image)]))


# Pairs of networks whose weights have the same shapes.
PAIRS = {
    "scale": (lambda: chain(layers.Rescaling(1 / 255), conv()), lambda: chain(layers.Rescaling(2 / 255), conv())),
    "offset": (lambda: chain(layers.Rescaling(1 / 255), conv()), lambda: chain(layers.Rescaling(1 / 255, -1), conv())),
    "activation": (lambda: chain(conv(activation="relu")), lambda: chain(conv(activation="gelu"))),
    "padding": (lambda: chain(conv()), lambda: chain(conv(padding="valid"))),
    "stride": (lambda: chain(conv()), lambda: chain(conv(strides=2))),
    "dilation": (lambda: chain(conv()), lambda: chain(conv(dilation_rate=2))),
    "precision": (lambda: chain(conv()), lambda: chain(conv(dtype="mixed_bfloat16"))),
    "epsilon": (
        lambda: chain(layers.BatchNormalization()),
        lambda: chain(layers.BatchNormalization(epsilon=1e-5)),
    ),
    "order": (lambda: chain(conv(), layers.ReLU(), conv()), lambda: chain(conv(), conv(), layers.ReLU())),
    "connection": (lambda: joined(True), lambda: joined(False)),
    "sharing": (lambda: shared(True), lambda: shared(False)),
    "constant": (lambda: chain(lambda x: x / 255, conv()), lambda: chain(lambda x: x / 127.5, conv())),
    "operation": (lambda: chain(keras.ops.relu, conv()), lambda: chain(keras.ops.tanh, conv())),
    "array": (
        lambda: chain(lambda x: x * np.float32([1, 2, 3])),
        lambda: chain(lambda x: x * np.float32([1, 2, 4])),
    ),
    "argument of a call": (
        lambda: chain(lambda x: layers.Dropout(0.5)(x, training=True)),
        lambda: chain(lambda x: layers.Dropout(0.5)(x, training=False)),
    ),
    "within": (lambda: chain(chain(conv(activation="relu"))), lambda: chain(chain(conv(activation="tanh")))),
    "within a wrapper": (
        lambda: chain(layers.TimeDistributed(chain(conv(), layers.ReLU())), shape=(2, 8, 8, 3)),
        lambda: chain(layers.TimeDistributed(chain(conv(), layers.ELU())), shape=(2, 8, 8, 3)),
    ),
    "within a layer": (lambda: chain(Composite("relu")), lambda: chain(Composite("tanh"))),
    "option of a user's layer": (lambda: chain(Gain(1.0)), lambda: chain(Gain(2.0))),
    "option that is not saved": (lambda: chain(Secretive(1.0)), lambda: chain(Secretive(2.0))),
    "lambda": (
        lambda: chain(layers.Lambda(lambda x: x / 255)),
        lambda: chain(layers.Lambda(lambda x: x / 127.5)),
    ),
    "named function": (lambda: chain(layers.Lambda(double)), lambda: chain(layers.Lambda(square))),
    "functions of one name": (lambda: chain(layers.Lambda(halving)), lambda: chain(layers.Lambda(thirds))),
    "activation of a user's": (
        lambda: chain(layers.Activation(halving)),
        lambda: chain(layers.Activation(thirds)),
    ),
    "input": (lambda: chain(layers.ReLU()), lambda: chain(layers.ReLU(), shape=(9, 8, 3))),
}


@pytest.mark.parametrize("case", PAIRS)
def test_another_network_of_the_same_weights_has_another_digest(case):
    one, other = (make() for make in PAIRS[case])
    other.set_weights(one.get_weights()[: len(other.weights)])
    assert network_digest(one) != network_digest(other)


@pytest.mark.parametrize("case", PAIRS)
def test_the_same_network_made_twice_has_one_digest(case):
    for make in PAIRS[case]:
        one, other = make(), make()
        other.set_weights(one.get_weights())
        assert network_digest(one) == network_digest(other)


def test_a_model_that_is_code_is_known_by_what_is_within():
    models = [Code("relu"), Code("relu"), Code("tanh")]
    for model in models:
        model(np.ones((1, 4, 4, 3)))
        model.set_weights(models[0].get_weights())
    one, same, other = map(network_digest, models)
    assert one == same != other


def test_weights_tell_networks_apart():
    one, other = chain(conv()), chain(conv())
    assert network_digest(one) != network_digest(other)
    other.set_weights(one.get_weights())
    assert network_digest(one) == network_digest(other)


def test_names_and_what_is_frozen_do_not_matter():
    one, other = chain(conv(name="a")), chain(conv(name="b"), name="other")
    other.set_weights(one.get_weights())
    other.trainable = False
    assert network_digest(one) == network_digest(other)


def test_a_constant_that_a_function_refers_to_counts(monkeypatch):
    before = network_digest(chain(layers.Lambda(double)))
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 3.0)
    assert network_digest(chain(layers.Lambda(double))) != before


def test_other_calls_of_its_layers_do_not_matter():
    model = chain(conv(), layers.ReLU())
    before = network_digest(model)
    keras.Model(model.input, layers.Flatten()(model.layers[1](model.layers[2](model.input))))
    assert network_digest(model) == before


def test_a_saved_network_is_the_one_that_was_saved(tmp_path):
    model = chain(layers.Rescaling(1 / 255), conv(), layers.RandomFlip(), layers.Dropout(0.5), chain(conv()))
    model.save(tmp_path / "model.keras")
    digests = {network_digest(keras.models.load_model(tmp_path / "model.keras")) for _ in range(2)}
    assert digests == {network_digest(model)}


PROGRAM = """
import keras
from pipelines.training.fingerprints import network_digest
layers = [keras.layers.Lambda(lambda x: x / 255 if x is not None else {"a", "b"}), keras.layers.Conv2D(2, 1)]
model = keras.Sequential([keras.Input((4, 4, 3)), *layers])
model.set_weights([w * 0 + 1 for w in model.get_weights()])
print(network_digest(model))
"""


@pytest.mark.slow
def test_another_process_finds_the_same_digest():
    runs = [subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True) for _ in range(2)]
    assert len({run.stdout for run in runs}) == 1 and len(runs[0].stdout.strip()) == 64
