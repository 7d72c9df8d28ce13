"""A model whose convolutions include their frozen batch normalisation learns the same as the model itself."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.folding_cases import FOLDS, L, assert_same_outputs, bn, network
from keras import ops

import keras_cnn as kc
from keras_cnn import surgery
from keras_cnn.surgery.graph import nodes_of

STAYS = [case for case in FOLDS if case.startswith("before") or case == "on both sides"]


def frozen(function):
    model = network(function)
    kc.unfreeze(model)
    return model


def called(model):
    """All layers that are called, in nested models too."""
    for node in nodes_of(getattr(model, "_functional", model)):
        yield node.operation
        if isinstance(node.operation, keras.Model):
            yield from called(node.operation)


def normalises(model):
    return any(isinstance(layer, L.BatchNormalization) for layer in called(model))


def gradients(model, variables, images):
    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        loss = ops.sum(
            outputs * ops.cos(ops.cast(ops.reshape(ops.arange(ops.size(outputs)), outputs.shape), "float32"))
        )
    return tape.gradient(loss, [variable.value for variable in variables])


def images_of(shape=(8, 9, 3), seed=3):
    return tf.constant(np.random.default_rng(seed).normal(size=(2, *shape)), tf.float32)


@pytest.mark.parametrize("case", FOLDS)
def test_outputs_and_gradients_are_those_of_the_model(case):
    model = frozen(FOLDS[case])
    folded = surgery.fold_frozen(model)
    assert normalises(model) and normalises(folded) == (case in STAYS)
    assert_same_outputs(folded, model, (8, 9, 3))
    assert {id(w) for w in folded.trainable_variables} == {id(w) for w in model.trainable_variables}
    assert {id(w) for w in folded.weights} == {id(w) for w in model.weights}
    pairs = (gradients(m, model.trainable_variables, images_of()) for m in (folded, model))
    for found, expected in zip(*pairs, strict=True):
        assert np.ptp(expected) > 0
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


@pytest.mark.slow
def test_a_network_learns_the_same():
    def trained(fold):
        keras.utils.set_random_seed(0)
        network = kc.load_backbone("efficientnet_lite0", input_shape=(64, 64, 3)).model
        model = kc.builder.attach(network, kc.heads.classification(3))
        kc.unfreeze(model, starting_at="stage4")
        start = [ops.convert_to_numpy(w).copy() for w in model.trainable_variables]
        other = surgery.fold_frozen(model) if fold else model
        other.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
        images = np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 3)).astype("float32")
        other.fit(images, np.array([0, 1, 2, 0]), batch_size=4, shuffle=False, verbose=0)
        return [ops.convert_to_numpy(w) - before for w, before in zip(model.trainable_variables, start, strict=True)]

    for found, expected in zip(trained(True), trained(False), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max() + 1e-7)


def test_trainable_batch_norms_stay():
    def both(x):
        x = bn("frozen")(L.Conv2D(4, 3, name="conv1")(x))
        return bn("trained")(L.Conv2D(4, 3, name="conv2")(L.ReLU(name="relu")(x)))

    model = frozen(both)
    model.get_layer("trained").trainable = True
    folded = surgery.fold_frozen(model)
    assert [layer.name for layer in folded.layers][1:] == ["conv1", "relu", "conv2", "trained"]
    before = ops.convert_to_numpy(model.get_layer("trained").moving_mean).copy()
    folded(images_of(), training=True)
    assert not np.array_equal(before, model.get_layer("trained").moving_mean)
    plain = keras.Sequential([keras.Input((2,)), L.Dense(3), bn("trained")])
    assert surgery.fold_frozen(plain) is plain


def test_frozen_kernels_and_kernel_regularizers():
    def function(x):
        x = bn()(L.Conv2D(4, 3, kernel_regularizer="l2", name="trained")(x))
        return bn()(L.DepthwiseConv2D(3, name="kept")(x))

    model = frozen(function)
    model.get_layer("kept").trainable = False
    folded = surgery.fold_frozen(model)
    assert [w.path for w in folded.trainable_variables] == ["trained/kernel", "trained/bias"]
    assert len(folded.losses) == 1
    np.testing.assert_allclose(folded.losses[0], 0.01 * np.sum(np.square(model.get_layer("trained").kernel)), rtol=1e-5)


def test_mixed_precision_scales_kernels_in_float32():
    model = frozen(FOLDS["convolution"])
    folded = surgery.fold_frozen(model)
    exact = ops.convert_to_numpy(folded(images_of()))
    with kc.training.mixed_precision(model):
        half = folded(images_of())
        assert half.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(half, tf.float32), exact, rtol=0, atol=0.02 * np.abs(exact).max())


def test_it_refuses_to_be_saved_and_to_be_unfrozen(tmp_path):
    model = frozen(FOLDS["convolution"])
    folded = surgery.fold_frozen(model)
    with pytest.raises(NotImplementedError, match="Save the model that it was made from"):
        folded.save(tmp_path / "folded.keras")
    with pytest.raises(NotImplementedError, match="Save the model that it was made from"):
        folded.save_weights(tmp_path / "folded.weights.h5")
    for layer in model.layers:
        layer.trainable = True
    with pytest.raises(ValueError, match="must stay frozen"):
        folded(images_of())


def test_a_model_without_a_graph_is_refused():
    with pytest.raises(TypeError, match=r"fold_frozen: `model` must be a keras\.Model"):
        surgery.fold_frozen(3)


@pytest.mark.parametrize("regularized", ["convolution", "norm"])
def test_activity_regularizers_stay(regularized):
    options = {regularized: {"activity_regularizer": "l2"}}

    def function(x):
        return bn(**options.get("norm", {}))(L.Conv2D(4, 3, **options.get("convolution", {}))(x))

    model = frozen(function)
    folded = surgery.fold_frozen(model)
    for one in (model, folded):
        one(images_of())
    assert folded is model and len(model.losses) == 1


def test_a_norm_after_two_convolutions_stays_frozen():
    norm = bn("norm")
    folded = surgery.fold_frozen(frozen(lambda x: L.Add()([norm(L.Conv2D(4, 3)(x)), norm(L.Conv2D(4, 3)(x))])))
    assert not normalises(folded)
    kc.freeze(folded)
    kc.unfreeze(folded)
    assert not norm.trainable and len(folded.trainable_variables) == 4


def test_the_symbolic_output_has_the_dtype_of_the_layers():
    inputs = keras.Input((8, 9, 3))
    conv, norm = L.Conv2D(4, 3, dtype="mixed_bfloat16"), bn(trainable=False, dtype="mixed_bfloat16")
    folded = surgery.fold_frozen(keras.Model(inputs, norm(conv(inputs))))
    assert not normalises(folded) and folded.output.dtype == folded(images_of()).dtype.name == "bfloat16"
