"""The network as it is served: the same function, folded, constant, calibrated, in the precision that is asked for."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

import keras_cnn as kc
from keras_cnn.serving import graph_rewriting, network

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3)).astype("float32")


def small(last):
    """A convolution with batch norm, a depthwise one, and the head `last`."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False)(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.DepthwiseConv2D(3, strides=2)(keras.layers.ReLU(6)(x))
    model = keras.Model(inputs, last(x))
    random = np.random.default_rng(1)
    for weight in model.get_layer("norm").weights:
        weight.assign(random.uniform(0.5, 1.5, weight.shape))
    return model


def dense(activation):
    return lambda x: keras.layers.Dense(5, activation, name="dense")(4 * keras.layers.GlobalAveragePooling2D()(x))


def probabilities(model, *arguments):
    return network.Network(model, *arguments).run(IMAGES)["probabilities"].numpy()


def operations(model, *arguments):
    """Operation -> types of its results."""
    graph = network.Network(model, *arguments).run.get_concrete_function().graph.as_graph_def()
    found = {}
    for node in graph.node:
        found.setdefault(node.op, set()).add(tf.as_dtype(node.attr["T"].type or node.attr["dtype"].type or 1))
    return found


@pytest.mark.parametrize("head", [dense("softmax"), dense("sigmoid"), kc.heads.classification(5, dropout=0.5)])
def test_the_function_stays_and_so_does_the_model(head):
    model = small(head)
    before = [keras.ops.convert_to_numpy(weight).copy() for weight in model.weights]
    np.testing.assert_allclose(probabilities(model), model(IMAGES, training=False), atol=1e-6)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)
    assert {"Rsqrt", "ReadVariableOp"}.isdisjoint(operations(model))


@pytest.mark.parametrize("temperature", [0.5, 1.7])
@pytest.mark.parametrize(
    ("activation", "function"), [("softmax", scipy.special.softmax), ("sigmoid", scipy.special.expit)]
)
def test_logits_are_divided_by_the_temperature(activation, function, temperature):
    model = small(dense(activation))
    features = keras.Model(model.input, model.get_layer("dense").input)(IMAGES, training=False)
    kernel, bias = model.get_layer("dense").get_weights()
    logits = keras.ops.convert_to_numpy(features) @ kernel + bias
    options = {"axis": -1} if activation == "softmax" else {}
    expected = function(logits / temperature, **options)
    np.testing.assert_allclose(probabilities(model, "float32", temperature), expected, atol=1e-5)
    assert network.Network(model, "float32", temperature).multi_label == (activation == "sigmoid")


def test_a_temperature_needs_logits():
    with pytest.raises(
        ValueError, match=r"must be 1 unless the model ends in softmax or sigmoid\. Received: .* ends in Relu"
    ):
        network.Network(small(dense("relu")), "float32", 2.0)


@pytest.mark.parametrize(
    ("name", "kind", "rounding"), [("bfloat16", tf.bfloat16, 2**-8), ("float16", tf.float16, 2**-11)]
)
def test_convolutions_compute_in_16_bits_and_the_head_does_not(name, kind, rounding):
    model = small(dense("softmax"))
    found = operations(model, name)
    assert found["Conv2D"] == found["DepthwiseConv2dNative"] == {kind}
    assert found["MatMul"] == found["Softmax"] == found["Mean"] == {tf.float32}
    exact = keras.ops.convert_to_numpy(model(IMAGES, training=False))
    off = np.abs(probabilities(model, name) - exact).max()
    assert 0 < off < 8 * rounding


def test_a_convolution_in_bfloat16_is_that_of_tensorflow():
    inputs = keras.Input((12, 12, 3))
    model = keras.Model(
        inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, use_bias=False)(inputs))
    )
    (kernel,) = (tf.cast(weight.value, tf.bfloat16) for weight in model.weights)
    maps = tf.nn.conv2d(tf.cast(IMAGES, tf.bfloat16), kernel, 1, "VALID")
    np.testing.assert_allclose(
        probabilities(model, "bfloat16"), tf.reduce_mean(tf.cast(maps, tf.float32), (1, 2)), rtol=1e-6
    )


def test_what_stands_before_the_first_convolution_stays_in_float32():
    # 1/255 is no number of 8 bits, so an image scaled in bfloat16 would not be what the network was trained on.
    model = small(dense("softmax"))
    graph = network.Network(model, "bfloat16").run.get_concrete_function().graph.as_graph_def()
    (scaling,) = [node for node in graph.node if node.op == "Mul" and "rescaling" in node.name]
    assert scaling.attr["T"].type == tf.float32.as_datatype_enum


def test_kernels_of_8_bits_have_a_scale_for_each_channel():
    kernel = np.array([[[[1.27, 0.0], [-0.635, 10.0]]]], "float32")  # 1 x 1, 2 channels in, 2 out
    with tf.Graph().as_default() as graph:
        images = tf.compat.v1.placeholder(tf.float32, (None, 4, 4, 2), "images")
        tf.identity(tf.nn.conv2d(images, tf.constant(kernel, name="kernel"), 1, "SAME"), "maps")
    rewritten = graph_rewriting.rewrite(graph, ["images:0"], ["maps:0"], "int8")
    constants = {node.name: tf.make_ndarray(node.attr["value"].tensor) for node in rewritten.node if node.op == "Const"}
    whole, scale = constants["kernel/int8"], constants["kernel/scale"]
    # Largest numbers 1.27 and 10, so steps of 0.01 and 10 / 127; -0.635 lies between -63 and -64 steps.
    np.testing.assert_allclose(scale.ravel(), [0.01, 10 / 127], rtol=1e-6)
    assert whole.dtype == np.int8 and whole.ravel().tolist() in ([127, 0, -64, 127], [127, 0, -63, 127])


def test_networks_in_8_bits_lose_little():
    model = small(dense("softmax"))
    off = np.abs(probabilities(model, "int8") - model(IMAGES, training=False)).max()
    assert 0 < off < 0.05
    assert "Cast" in operations(model, "int8")


def test_networks_too_large_for_a_protobuf_keep_their_variables(monkeypatch, tmp_path):
    monkeypatch.setattr(network, "MAX_CONSTANTS", 100)
    model = small(dense("softmax"))
    served = network.Network(model)
    tf.saved_model.save(served, str(tmp_path), signatures={"run": served.run})
    found = tf.saved_model.load(str(tmp_path)).signatures["run"](images=tf.constant(IMAGES))["probabilities"]
    np.testing.assert_allclose(found, model(IMAGES, training=False), atol=1e-6)
    with pytest.raises(ValueError, match=r"`precision` must be float32 for a network of more than .* GiB\. Received"):
        network.Network(model, "bfloat16")


def test_branches_that_meet_in_different_precisions():
    """Squeeze-and-excitation: a mean stays in float32, and what it scales is in 16 bits."""
    inputs = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(8, 3, padding="same")(inputs / 255)
    x = keras.layers.Concatenate()([kc.layers.SqueezeExcite(2)(x), keras.layers.MaxPooling2D(3, 1, "same")(x)])
    model = keras.Model(inputs, dense("softmax")(x))
    for name in ("bfloat16", "float16"):
        assert np.abs(probabilities(model, name) - model(IMAGES, training=False)).max() < 0.02
