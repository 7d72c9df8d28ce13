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


def classifier(nested):
    """Features of 4 channels, pooled, 3 classes; with the network as a part of another model or not."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    model = keras.Model(inputs, kc.heads.classification(3, dropout=0.2)(x), name="network")
    outer = keras.Input((8, 8, 3))
    return keras.Model(outer, model(keras.layers.Rescaling(2.0)(outer)), name="outer") if nested else model


def inside(model):
    return next((layer for layer in model.layers if isinstance(layer, keras.Model)), model)


@pytest.mark.parametrize("nested", [False, True])
def test_a_swapped_head_keeps_all_else(nested):
    model = classifier(nested)
    swapped = kc.swap_head(model, 5)
    assert model.output_shape == (None, 3) and swapped.output_shape == (None, 5)
    assert [layer.name for layer in inside(swapped).layers] == [layer.name for layer in inside(model).layers]
    assert inside(swapped).get_layer("conv") is inside(model).get_layer("conv")
    assert inside(swapped).get_layer("logits") is not inside(model).get_layer("logits")
    # The first three columns of the new kernel set to the old one, the others far down: the old probabilities.
    kernel, bias = inside(model).get_layer("logits").get_weights()
    new = [np.pad(kernel, ((0, 0), (0, 2))), np.pad(bias, (0, 2), constant_values=-1e9)]
    inside(swapped).get_layer("logits").set_weights(new)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(swapped(images)[:, :3], model(images), atol=1e-6)


@pytest.mark.parametrize("nested", [False, True])
def test_grad_cam_after_swapping_the_head(nested):
    # CAM in closed form: the maps weighted by the column of the new head (Selvaraju et al., 2017, section 3.1).
    model = kc.swap_head(classifier(nested), 2)
    image = np.random.default_rng(1).uniform(size=(8, 8, 3)).astype("float32")
    conv, logits = inside(model).get_layer("conv"), inside(model).get_layer("logits")
    maps = keras.ops.convert_to_numpy(conv(image[None] * (2 if nested else 1)))[0]
    expected = np.maximum(maps @ keras.ops.convert_to_numpy(logits.kernel)[:, 1], 0)
    found = kc.analysis.grad_cam(model, image, 1, layer="network/conv" if nested else "conv")
    resized = keras.ops.image.resize(expected[None, ..., None] / max(expected.max(), 1e-9), (8, 8))[0, ..., 0]
    np.testing.assert_allclose(found / max(found.max(), 1e-9), resized / max(float(np.max(resized)), 1e-9), atol=1e-4)


def test_a_model_without_a_head_is_refused():
    inputs = keras.Input((4, 4, 2))
    with pytest.raises(
        ValueError, match=r"swap_head: the output must be made by a Dense layer .*'batch_norm' comes first"
    ):
        kc.swap_head(keras.Model(inputs, keras.layers.BatchNormalization(name="batch_norm")(inputs)), 2)
    with pytest.raises(ValueError, match=r"swap_head: `classes` must be an integer of at least 1"):
        kc.swap_head(classifier(False), 0)
