"""Parts of a model do together what the whole does."""

import keras
import numpy as np
import pytest

import keras_cnn as kc
from keras_cnn.surgery import output_of, split


def test_front_and_rest_give_what_the_whole_gives_and_share_its_weights():
    model = kc.load_backbone("efficientnet_lite0", input_shape=(64, 64, 3), weights=None).model
    front, rest = split(model, "stage3")
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype("float32")
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
    with pytest.raises(ValueError, match=r"split: every path must pass through `after`\. Received: after='inner'"):
        split(model, "inner")


def test_a_layer_used_twice_is_refused():
    inputs, layer = keras.Input((4,)), keras.layers.Dense(4, name="shared")
    with pytest.raises(ValueError, match=r"must use layer 'shared' once\. Received: a model that uses it 2 times"):
        output_of(keras.Model(inputs, layer(layer(inputs))), "shared")
