"""Frozen layers do not move, batch normalisation included, whatever `fit` says."""

import keras
import numpy as np
import pytest

import keras_cnn as kc


def network():
    """Two stages of convolution and batch normalisation, each ended by a layer of its name, and a head."""
    x = inputs = keras.Input((8, 8, 3))
    for stage in ("stage1", "stage2"):
        x = keras.layers.Conv2D(4, 3, padding="same", name=f"{stage}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"{stage}_bn")(x)
        x = keras.layers.ReLU(name=f"{stage}_relu")(x)
        x = keras.layers.Identity(name=stage)(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(2, name="logits")(x))


def moved_by_training(model):
    """Names of the layers whose weights one step of `fit` changes."""
    value = keras.ops.convert_to_numpy
    before = {weight.path: value(weight).copy() for weight in model.weights}
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    random = np.random.default_rng(0)
    model.fit(random.normal(size=(8, 8, 8, 3)), random.integers(0, 2, 8), verbose=0)
    return {
        weight.path.split("/")[0] for weight in model.weights if not np.array_equal(before[weight.path], value(weight))
    }


EVERYTHING = {"stage1_conv", "stage1_bn", "stage2_conv", "stage2_bn", "logits"}


def test_all_layers_move_by_default():
    # The measure itself: without this, the tests below could pass on a model that never learns.
    assert moved_by_training(network()) == EVERYTHING


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
@pytest.mark.parametrize(
    ("through", "expected"),
    [
        ("stage1", {"stage2_conv", "stage2_bn", "logits"}),
        ("stage2_conv", {"stage2_bn", "logits"}),
        ("stage2", {"logits"}),
        (None, set()),
    ],
)
def test_freeze_through(through, expected):
    model = network()
    kc.freeze(model, through)
    assert moved_by_training(model) == expected


@pytest.mark.parametrize(
    ("from_", "batch_norm", "expected"),
    [
        ("stage2", False, {"stage2_conv", "logits"}),
        ("stage2", True, {"stage2_conv", "stage2_bn", "logits"}),
        ("stage1", False, {"stage1_conv", "stage2_conv", "logits"}),
        ("stage2_bn", True, {"stage2_bn", "logits"}),
        ("logits", False, {"logits"}),
        (None, False, {"stage1_conv", "stage2_conv", "logits"}),
        (None, True, EVERYTHING),
    ],
)
def test_unfreeze_from(from_, batch_norm, expected):
    model = network()
    kc.freeze(model)
    kc.unfreeze(model, from_, batch_norm=batch_norm)
    assert moved_by_training(model) == expected


def test_unfreeze_works_on_a_model_frozen_the_usual_way():
    model = network()
    model.trainable = False
    kc.unfreeze(model, "stage2")
    assert moved_by_training(model) == {"stage2_conv", "logits"}


def test_batch_norm_inside_a_layer_stays_frozen_too():
    inner = keras.Sequential([keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()], name="inner")
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(2, name="logits")(keras.layers.GlobalAveragePooling2D()(inner(inputs)))
    model = keras.Model(inputs, outputs)
    kc.freeze(model)
    kc.unfreeze(model)
    assert [layer.trainable for layer in inner.layers] == [True, False]


def test_check_frozen_passes_and_raises():
    model = network()
    kc.freeze(model, "stage1")
    with kc.check_frozen(model):
        assert moved_by_training(model) == {"stage2_conv", "stage2_bn", "logits"}
    with pytest.raises(RuntimeError, match=r"1 weights of frozen layers moved: stage1_bn/moving_mean\. Freeze before"):
        with kc.check_frozen(model):
            model.get_layer("stage1_bn").moving_mean.assign_add([0, 0, 1, 0])


def test_the_mistake_that_keras_lets_pass_is_caught():
    # `trainable` set after `compile` is ignored by Keras: the layers train on.
    model = network()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(np.ones((2, 8, 8, 3)), np.zeros((2, 2)), verbose=0)
    model.get_layer("stage1_conv").trainable = False
    with pytest.raises(RuntimeError, match="stage1_conv/kernel"), kc.check_frozen(model):
        model.fit(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), np.ones((2, 2)), verbose=0)
    for function in (kc.freeze, kc.unfreeze):
        with pytest.raises(ValueError, match=r"must not be compiled yet.*Call \w+ first and `compile` after it"):
            function(model)


def test_a_name_that_is_not_there():
    with pytest.raises(ValueError) as error:
        kc.freeze(network(), "stage9")
    assert str(error.value) == (
        "freeze: `through` must be a layer of the model, such as stage1, stage2. Received: through='stage9'."
    )
