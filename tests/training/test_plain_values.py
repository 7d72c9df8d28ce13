"""Values in callbacks are the same after a round trip through JSON and arrays."""

import json
import random
from collections import Counter, OrderedDict, defaultdict, deque

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from keras_cnn.training.plain_values import from_plain, to_plain


class Custom:
    """A custom class."""

    def __init__(self, number):
        self.number, self.inner = number, {"list": [number]}


def round_trip(value, live=None):
    arrays, unsupported = [], []
    plain = json.loads(json.dumps(to_plain(value, arrays, unsupported=unsupported)))
    assert not unsupported
    return from_plain(plain, arrays, live)


VALUES = [
    None,
    True,
    3,
    0.1 + 0.2,
    "name",
    b"\x00\xff",
    (1, [2, (3,)]),
    {1: {"a": None}, ("b", 2): [1.5]},
    {1, "1"},
    frozenset([2]),
    deque([1, 2]),
    OrderedDict(b=1, a=2),
    Counter("aab"),
    defaultdict(list, a=[1]),
    np.float32(0.1),
    np.int64(2**60),
    np.bool_(True),
    keras.ops.less,
    np.minimum,
    max,
    int,
    Custom,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_come_back_with_their_type(value):
    found = round_trip(value)
    assert found == value and type(found) is type(value)
    assert round_trip([value, {"deep": value}]) == [value, {"deep": value}]


def test_a_factory_of_missing_values_comes_back():
    assert round_trip(defaultdict(list, a=[1]))["b"] == []


@pytest.mark.parametrize("dtype", ["float32", "int8", "bool", ml_dtypes.bfloat16, "<U3", "complex64"])
def test_arrays_come_back_with_their_type(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    found = round_trip([array])[0]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_nan_and_infinity_come_back():
    assert np.isnan(round_trip(float("nan"))) and round_trip(-np.inf) == -np.inf


def test_tensors_and_variables_come_back_and_existing_objects_are_filled():
    tensor = tf.constant([1, 2], tf.int16)
    found = round_trip(tensor)
    assert found.dtype == tensor.dtype and found.numpy().tolist() == [1, 2]
    for make in (tf.Variable, keras.Variable):
        old, live = make([1.0, 2.0]), make([0.0, 0.0])
        assert round_trip(old, live) is live and np.array(live).tolist() == [1.0, 2.0]
        assert np.array(round_trip(old)).tolist() == [1.0, 2.0]
    for old, live in (([1, 2], [3]), ({"a": 1}, {"b": 2}), ({1}, {2}), (deque([1]), deque([2], maxlen=5))):
        assert round_trip(old, live) is live and live == old


def test_random_generators_continue():
    for make, draw in ((np.random.default_rng, lambda r: r.random()), (random.Random, lambda r: r.random())):
        old, live = make(1), make(2)
        draw(old)
        kept = round_trip(old)
        assert round_trip(old, live) is live
        assert draw(old) == draw(live) == draw(kept)
    old, live = keras.random.SeedGenerator(1), keras.random.SeedGenerator(2)
    old.next()
    round_trip(old, live)
    np.testing.assert_array_equal(old.next(), live.next())


def test_objects_and_metrics_are_filled():
    old, live = Custom(1), Custom(2)
    inner = live.inner
    assert round_trip(old, live) is live and live.number == 1 and live.inner is inner and inner == {"list": [1]}
    old, live = [keras.metrics.Mean() for _ in range(2)]
    old.update_state([1.0, 2.0])
    round_trip({"metric": old}, {"metric": live})
    assert float(live.result()) == 1.5


def test_variables_that_are_saved_elsewhere_are_left_out():
    layer, live = keras.layers.Dense(2), keras.layers.Dense(2)
    for one in (layer, live):
        one.build((None, 3))
    arrays, before = [], live.get_weights()
    plain = to_plain(layer, arrays, skipped={id(layer.kernel)})
    from_plain(plain, arrays, live)
    assert len(arrays) == 1
    np.testing.assert_array_equal(live.kernel, before[0])
    np.testing.assert_array_equal(live.bias, layer.bias)


def test_unsupported_values_are_reported():
    custom = Custom(1)
    custom.inner = custom  # refers to itself
    with open(__file__) as file:
        for value, kind in (
            (file, "TextIOWrapper"),
            ({"deep": [lambda: 1]}, "function"),
            (np.array([object()]), "ndarray"),
            (tf.data.Dataset.range(2), "_RangeDataset"),
            (custom, "Custom"),
        ):
            unsupported = []
            to_plain(value, [], unsupported=unsupported)
            assert unsupported == [kind]
