"""The parts of a split model together compute what the model computes."""

from functools import partial

import keras
import numpy as np
import pytest

import keras_cnn as kc
from keras_cnn.surgery import can_split, output_of, split

pytestmark = pytest.mark.any_backend


def test_the_parts_compute_the_same_and_share_the_weights():
    stage = [partial(kc.blocks.residual, filters=4)] * 2
    model = kc.build((8, 8, 3), {"c1": stage, "c2": stage}, kc.heads.classification(3))
    front, rest = split(model, "c1")
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_array_equal(rest(front(images)), model(images))
    assert {id(w) for w in front.weights} | {id(w) for w in rest.weights} == {id(w) for w in model.weights}
    assert not {id(w) for w in front.weights} & {id(w) for w in rest.weights}


def test_a_part_can_be_split_again():
    x = inputs = keras.Input((4,))
    for name in "abc":
        x = keras.layers.Dense(4, name=name)(x)
    _, rest = split(keras.Model(inputs, x), "a")
    middle, last = split(rest, "b")
    values = np.ones((1, 4), "float32")
    np.testing.assert_allclose(last(middle(values)), rest(values), rtol=1e-6)


def test_a_path_around_is_refused():
    inputs = keras.Input((4,))
    inner = keras.layers.Dense(4, name="inner")(inputs)
    model = keras.Model(inputs, keras.layers.Add()([inputs, inner]))
    with pytest.raises(
        ValueError, match=r"every path must pass through `after`, and not end there\. Received: after='inner'"
    ):
        split(model, "inner")


def test_where_a_model_can_be_split():
    image = keras.Input((8, 8, 3))
    stem = keras.layers.Conv2D(4, 3, padding="same", name="stem")(image)
    left = keras.layers.Conv2D(4, 1, name="left")(stem)
    join = keras.layers.Add(name="join")([left, stem])
    model = keras.Model(image, [keras.layers.ReLU(name="end")(join), keras.layers.Flatten(name="other")(join)])
    keras.layers.Conv2D(2, 1)(stem)  # in another model
    divided = [name for name in ("stem", "left", "join", "end", "other") if can_split(model, name)]
    assert divided == ["stem", "join"]


def test_a_split_before_a_tensor_that_is_used_twice():
    image = keras.Input((4, 4, 2))
    x = keras.layers.Conv2D(2, 1, name="conv")(image)
    model = keras.Model(image, keras.layers.Add()([x, x]))
    front, rest = split(model, "conv")
    values = np.ones((1, 4, 4, 2), "float32")
    np.testing.assert_array_equal(rest(front(values)), 2 * front(values))


def test_a_layer_used_twice_is_refused():
    inputs, layer = keras.Input((4,)), keras.layers.Dense(4, name="shared")
    with pytest.raises(ValueError, match=r"must use layer 'shared' once\. Received: a model that uses it 2 times"):
        output_of(keras.Model(inputs, layer(layer(inputs))), "shared")
