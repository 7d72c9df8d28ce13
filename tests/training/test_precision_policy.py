"""Mixed precision within a block: the same results as under the policy of Keras, and float32 again afterwards."""

import keras
import numpy as np
import pytest

import keras_cnn as kc


def network():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    body = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, use_bias=False, name="inner")])
    x = keras.layers.BatchNormalization(name="norm")(body(x))
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(keras.layers.ReLU(6.0)(x))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


def classifier(backbone):
    head = keras.layers.Dense(2, activation="softmax", dtype="float32")
    model = keras.Model(backbone.input, head(backbone.output))
    keras.utils.set_random_seed(3)
    model.set_weights([np.random.default_rng(i).uniform(0.1, 1, w.shape) for i, w in enumerate(model.weights)])
    return model


def trained(model):
    random = np.random.default_rng(1)
    x, y = random.uniform(0, 255, (16, 8, 8, 3)).astype("float32"), np.eye(2)[random.integers(0, 2, 16)]
    model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return model.get_weights()


@pytest.mark.slow
def test_it_trains_as_keras_does_under_its_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        reference = trained(classifier(network()))
    finally:
        keras.config.set_dtype_policy("float32")
    backbone = network()
    model = classifier(backbone)
    with kc.training.mixed_precision(backbone):
        weights = trained(model)
    for ours, theirs in zip(weights, reference, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    plain = trained(classifier(network()))
    assert any((ours != other).any() for ours, other in zip(weights, plain, strict=True))


def test_afterwards_the_model_computes_in_float32_as_before():
    backbone = network()
    model, images = classifier(backbone), np.random.default_rng(2).uniform(0, 255, (4, 8, 8, 3)).astype("float32")
    before = keras.ops.convert_to_numpy(model(images, training=False))
    with pytest.raises(KeyError), kc.training.mixed_precision(backbone):
        assert backbone(images).dtype.name == "bfloat16"
        raise KeyError
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(images, training=False)), before)
    assert {layer.dtype_policy.name for layer in model._flatten_layers()} == {"float32"}


def test_a_model_that_is_compiled_again_predicts_in_float32():
    backbone = network()
    classifier(backbone)  # builds it
    images = np.random.default_rng(2).uniform(0, 255, (4, 8, 8, 3)).astype("float32")
    exact = keras.ops.convert_to_numpy(backbone(images, training=False))
    with kc.training.mixed_precision(backbone):
        backbone.compile(loss="mse")
        assert np.abs(backbone.predict(images, verbose=0) / exact - 1).max() > 1e-4
    backbone.compile(loss="mse")
    np.testing.assert_allclose(backbone.predict(images, verbose=0), exact, rtol=1e-6)


def test_layers_with_another_policy_keep_it():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(2, dtype="float16", name="half")(inputs)
    x = keras.layers.Dense(2, autocast=False, name="own")(keras.layers.Dense(2, name="plain")(x))
    model = keras.Model(inputs, x)
    with kc.training.mixed_precision(model):
        found = {layer.name: layer.dtype_policy.name for layer in model.layers[1:]}
    assert found == {"half": "float16", "plain": "mixed_bfloat16", "own": "float32"}


def test_other_policies_are_refused():
    with (
        pytest.raises(ValueError, match=r"`policy` must be one of 'mixed_bfloat16', 'mixed_float16'.*'float16'"),
        kc.training.mixed_precision(network(), "float16"),
    ):
        pass
