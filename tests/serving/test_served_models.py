"""Which models are served: classifiers of RGB images that give probabilities, made under whatever policy."""

import json

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from helpers.serving_cases import in_this_process

import keras_cnn as kc
from keras_cnn.serving import verification
from keras_cnn.serving.classifier import in_float32, require_classifier
from keras_cnn.serving.network import Network
from keras_cnn.serving.served_outputs import check_probabilities

L = keras.layers
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3)).astype("float32")


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    monkeypatch.setattr(verification, "_run", in_this_process)


def pooled(inputs):
    return L.GlobalAveragePooling2D()(L.Conv2D(4, 3)(L.Rescaling(1 / 255)(inputs)))


def head(inputs, classes=3, activation="softmax", **options):
    return L.Dense(classes, activation, bias_initializer="uniform", **options)(pooled(inputs))


def model_of(*heads, shape=(12, 12, 3)):
    """A model with the layers and functions of `heads` after a pooled convolution."""
    x = inputs = keras.Input(shape)
    for step in (pooled, *heads):
        x = step(x)
    return keras.Model(inputs, x)


def accepted(model, **options):
    network = Network(model, **options)
    probabilities = network.run(IMAGES)["probabilities"].numpy()
    check_probabilities(network.probabilities, probabilities)
    return probabilities, network.multi_label


RGB = r"^export: `model` must have one input of RGB images \(batch, height, width, 3\) and one output \(batch, classes\)\. "


def two_inputs():
    inputs = [keras.Input((12, 12, 3)), keras.Input((12, 12, 3))]
    return keras.Model(inputs, head(L.Add()(inputs)))


def with_numbers():
    inputs = [keras.Input((12, 12, 3)), keras.Input((2,))]
    return keras.Model(inputs, L.Dense(3, "softmax")(L.Concatenate()([pooled(inputs[0]), inputs[1]])))


def two_outputs(structure):
    inputs = keras.Input((12, 12, 3))
    return keras.Model(inputs, structure(head(inputs), head(inputs)))


def of_shape(shape, *layers, **options):
    x = inputs = keras.Input(shape, **options)
    for layer in layers or (L.Conv2D(4, 3), L.GlobalAveragePooling2D(), L.Dense(3, "softmax")):
        x = layer(x)
    return keras.Model(inputs, x)


OTHER_SHAPES = {
    "gray": (
        lambda: of_shape((12, 12, 1)),
        r"Received: \(None, 12, 12, 1\) -> .* keras_cnn\.adapt_input_channels\(model, 3\)",
    ),
    "four channels": (lambda: of_shape((12, 12, 4)), r"Received: \(None, 12, 12, 4\) -> .* Train it on 3 channels"),
    "fixed batch": (lambda: of_shape((12, 12, 3), batch_size=8), r"Received: \(8, 12, 12, 3\) .* Leave the batch free"),
    "flat": (lambda: of_shape((432,), L.Dense(3, "softmax")), r"Received: \(None, 432\) .* begin with keras\.Input"),
    "video": (
        lambda: of_shape((4, 12, 12, 3), L.GlobalAveragePooling3D(), L.Dense(3, "softmax")),
        r"Received: \(None, 4, 12, 12, 3\) .* begin with keras\.Input",
    ),
    "two inputs": (two_inputs, r"Received: \(None, 12, 12, 3\) and \(None, 12, 12, 3\) -> .* the images alone"),
    "an image and numbers": (with_numbers, r"Received: \(None, 12, 12, 3\) and \(None, 2\) -> .* the images alone"),
    "two outputs": (
        lambda: two_outputs(lambda *x: list(x)),
        r"-> \(None, 3\) and \(None, 3\)\. Export a model of one of them",
    ),
    "dict of outputs": (
        lambda: two_outputs(lambda a, b: {"a": a, "b": b}),
        r"\(None, 3\)\. Export a model of one of them",
    ),
    "map": (
        lambda: of_shape((12, 12, 3), L.Conv2D(3, 3, activation="softmax")),
        r"-> \(None, 10, 10, 3\)\. Let it end in a",
    ),
    "sequence": (
        lambda: of_shape((12, 12, 3), L.Reshape((24, 18)), L.Dense(3)),
        r"-> \(None, 24, 3\)\. Let it end in keras",
    ),
}


@pytest.mark.parametrize("case", OTHER_SHAPES)
def test_models_of_other_shapes_are_refused_in_a_sentence_with_a_way_out(case, tmp_path):
    make, message = OTHER_SHAPES[case]
    with pytest.raises(ValueError, match=RGB + ".*" + message):
        kc.export(make(), tmp_path / "photos", labels=["a", "b", "c"])
    assert not list(tmp_path.iterdir())


def test_the_way_out_for_gray_images_is_one():
    gray = of_shape((12, 12, 1))
    model = require_classifier(kc.adapt_input_channels(gray, 3))
    same = IMAGES[..., :1]
    np.testing.assert_allclose(model(same.repeat(3, -1)), gray(same), atol=1e-6)


@pytest.mark.parametrize("structure", [lambda x: [x], lambda x: {"p": x}, lambda x: (x,)])
def test_a_list_or_dict_around_the_only_tensor_is_taken_off(structure):
    inputs = keras.Input((12, 12, 3), name="p")
    probabilities = head(inputs)
    plain, wrapped = keras.Model(inputs, probabilities), keras.Model(structure(inputs), structure(probabilities))
    np.testing.assert_array_equal(require_classifier(wrapped)(IMAGES), plain(IMAGES))


def averaged(activation):
    return lambda x: L.Average()([L.Dense(3, activation)(x), L.Dense(3, activation)(x)])


def nested(x):
    inputs = keras.Input(x.shape[1:])
    return keras.Model(inputs, L.Dense(3, "softmax")(inputs))(x)


def complement(x):
    p = L.Dense(1, "sigmoid")(x)
    return L.Concatenate()([1 - p, p])


def by_hand(x):
    e = keras.ops.exp(L.Dense(3)(x))
    return e / keras.ops.sum(e, -1, keepdims=True)


# Heads that give probabilities, and whether they are of several labels per image.
PROBABLE = {
    "dense softmax": ([L.Dense(3, "softmax")], False),
    "activation": ([L.Dense(3), L.Activation("softmax")], False),
    "layer": ([L.Dense(3), L.Softmax()], False),
    "operation": ([L.Dense(3), keras.ops.softmax], False),
    "layer of operation": ([L.Dense(3), lambda x: keras.ops.nn.softmax(x, axis=-1)], False),
    "nested": ([nested], False),
    "reshaped": ([L.Reshape((1, 1, 4)), L.Conv2D(3, 1), L.Softmax(), L.Flatten()], False),
    "linear after": ([L.Dense(3, "softmax"), L.Activation("linear", dtype="float32")], False),
    "average": ([averaged("softmax")], False),
    "by hand": ([by_hand], False),
    "complement": ([complement], False),
    "sigmoid": ([L.Dense(3, "sigmoid")], True),
    "activation sigmoid": ([L.Dense(3), L.Activation("sigmoid")], True),
    "operation sigmoid": ([L.Dense(3), keras.ops.sigmoid], True),
    "average of sigmoids": ([averaged("sigmoid")], True),
    "one": ([L.Dense(1, "sigmoid")], True),
}


@pytest.mark.parametrize("case", PROBABLE)
def test_probabilities_are_known_however_they_are_made(case):
    heads, expected_multi_label = PROBABLE[case]
    model = model_of(*heads)
    probabilities, multi_label = accepted(model)
    np.testing.assert_allclose(probabilities, model(IMAGES, training=False), atol=1e-6)
    assert multi_label == expected_multi_label


NO_PROBABILITIES = {
    "logits": [L.Dense(3, bias_initializer="uniform")],
    "relu": [L.Dense(3, "relu", bias_initializer="ones")],
    "tanh": [L.Dense(3, "tanh")],
    "softplus": [L.Dense(3, "softplus")],
    "log softmax": [L.Dense(3), L.Activation("log_softmax")],
    "regression": [L.Dense(1, bias_initializer="ones")],
    "scaled sigmoid": [L.Dense(3, "sigmoid", bias_initializer="ones"), L.Rescaling(100)],
    # Numbers that could be probabilities, by chance.
    "regression within 0 and 1": [
        L.Dense(1, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(0.4))
    ],
    "logits within 0 and 1": [
        L.Dense(3, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(0.4))
    ],
    "relu within 0 and 1": [L.Dense(3, "relu", kernel_initializer="zeros", bias_initializer="zeros")],
}


@pytest.mark.parametrize("case", NO_PROBABILITIES)
def test_what_gives_no_probabilities_is_refused_with_a_way_out(case):
    with pytest.raises(
        ValueError,
        match=r"^export: `model` must give probabilities, by softmax or sigmoid\. Received: outputs from .* "
        r'If they are logits, set activation="softmax", or "sigmoid" for several labels per image\. A regression is no',
    ):
        accepted(model_of(*NO_PROBABILITIES[case]))


@pytest.mark.slow
def test_a_refused_model_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="`model` must give probabilities"):
        kc.export(model_of(L.Dense(3)), tmp_path / "photos", labels=["a", "b", "c"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize(
    ("activation", "function"), [("softmax", lambda x: scipy.special.softmax(x, -1)), ("sigmoid", scipy.special.expit)]
)
def test_logits_become_probabilities_on_request(activation, function, temperature):
    model = model_of(L.Dense(3))
    probabilities, multi_label = accepted(model, activation=activation, temperature=temperature)
    np.testing.assert_allclose(
        probabilities, function(keras.ops.convert_to_numpy(model(IMAGES)) / temperature), atol=1e-6
    )
    assert multi_label == (activation == "sigmoid")


@pytest.mark.slow
def test_the_exported_version_gives_the_probabilities_of_logits(tmp_path):
    model = model_of(L.Dense(3))
    version = kc.export(model, tmp_path / "photos", ["a", "b", "c"], activation="softmax")
    answer = tf.saved_model.load(str(version)).signatures["predict_images"](images=tf.constant(IMAGES, tf.uint8))
    np.testing.assert_allclose(answer["all_probabilities"], scipy.special.softmax(model(IMAGES), -1), atol=1e-6)


@pytest.mark.parametrize("last", ["softmax", "sigmoid"])
def test_probabilities_are_not_made_twice(last, tmp_path):
    with pytest.raises(
        ValueError, match=rf"`activation` must be None .* Received: activation='softmax', .* ends in {last}\."
    ):
        kc.export(model_of(L.Dense(3, last)), tmp_path / "photos", activation="softmax")
    with pytest.raises(ValueError, match=r"`activation` must be one of None, 'softmax', 'sigmoid'\. Received"):
        kc.export(model_of(L.Dense(3, last)), tmp_path / "photos", activation="relu")


def test_a_temperature_of_logits_names_the_activation(tmp_path):
    with pytest.raises(ValueError, match=r'`temperature` must be 1 unless .* set activation="softmax", or "sigmoid"'):
        kc.export(model_of(L.Dense(3, bias_initializer="ones")), tmp_path / "photos", temperature=2.0)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize(("last", "options"), [("sigmoid", {}), (None, {"activation": "sigmoid"})])
def test_one_sigmoid_gives_two_probabilities_that_sum_to_one(last, options, temperature):
    model = model_of(L.Dense(1, last))
    outputs = keras.ops.convert_to_numpy(model(IMAGES)).ravel()
    logits = scipy.special.logit(outputs) if last else outputs
    probabilities, multi_label = accepted(model, binary=True, temperature=temperature, **options)
    expected = scipy.special.expit(logits / temperature)
    np.testing.assert_allclose(probabilities, np.stack([1 - expected, expected], 1), atol=1e-6)
    assert not multi_label


@pytest.mark.slow
@pytest.mark.parametrize(("last", "options"), [("sigmoid", {}), (None, {"activation": "sigmoid"})])
def test_one_sigmoid_is_the_probability_of_the_second_of_two_labels(last, options, tmp_path):
    model = model_of(L.Dense(1, last))
    version = kc.export(model, tmp_path / "pets", ["cat", "dog"], temperature=2.0, **options)
    answer = tf.saved_model.load(str(version)).signatures["predict_images"](images=tf.constant(IMAGES, tf.uint8))
    outputs = keras.ops.convert_to_numpy(model(IMAGES)).ravel()
    logits = scipy.special.logit(outputs) if last else outputs
    np.testing.assert_allclose(answer["all_probabilities"].numpy()[:, 1], scipy.special.expit(logits / 2), atol=1e-6)
    np.testing.assert_allclose(answer["all_probabilities"].numpy().sum(1), 1, atol=1e-6)
    best = ["dog" if logit > 0 else "cat" for logit in logits]
    assert [label.decode() for label in answer["labels"].numpy()[:, 0]] == best
    assert json.loads((version / "assets" / "model_card.json").read_text())["multi_label"] is False


@pytest.mark.filterwarnings("ignore:.*softmax over axis:UserWarning")  # of one: always 1
@pytest.mark.parametrize(
    ("layer", "options", "ending"),
    [
        (L.Dense(1, "tanh"), {}, "Tanh"),
        (L.Dense(1, "softmax"), {}, "softmax"),
        (L.Dense(1, kernel_initializer="zeros"), {}, "MatMul"),
        (L.Dense(1), {"activation": "softmax"}, "softmax"),
    ],
)
def test_two_labels_for_one_output_need_a_sigmoid(layer, options, ending, tmp_path):
    with pytest.raises(
        ValueError, match=rf"`labels` must be one name .* Received: two and a model that ends in {ending}\."
    ):
        kc.export(model_of(layer), tmp_path / "pets", ["cat", "dog"], **options)


def under(policy, make):
    keras.config.set_dtype_policy(policy)
    try:
        return make()
    finally:
        keras.config.set_dtype_policy("float32")


def with_batch_norm():
    x = inputs = keras.Input((12, 12, 3))
    for filters in (4, 8):
        x = L.ReLU()(L.BatchNormalization()(L.Conv2D(filters, 3, use_bias=False)(x)))
    return keras.Model(inputs, L.Dense(3, "softmax")(L.GlobalAveragePooling2D()(x)))


def with_float32_softmax():
    """As Keras' guide to mixed precision has it."""
    return model_of(L.Dense(3), L.Activation("softmax", dtype="float32"))


def with_nested():
    inputs = keras.Input((12, 12, 3))
    return keras.Model(
        inputs, L.Dense(3, "softmax")(L.GlobalMaxPooling2D()(of_shape((12, 12, 3), L.Conv2D(4, 3))(inputs)))
    )


def with_sequential():
    return keras.Sequential([keras.Input((12, 12, 3)), L.Conv2D(4, 3), L.Flatten(), L.Dense(3, "softmax")])


MIXED = ("mixed_float16", "mixed_bfloat16")


@pytest.mark.parametrize("make", [with_batch_norm, with_float32_softmax, with_nested, with_sequential])
@pytest.mark.parametrize("policy", MIXED)
def test_models_made_under_mixed_precision_are_served_in_float32(make, policy):
    model, plain = under(policy, make), make()
    plain.set_weights(model.get_weights())
    before = keras.ops.convert_to_numpy(model(IMAGES, training=False))
    with in_float32(require_classifier(model)) as served:
        probabilities = Network(served).run(IMAGES)["probabilities"]
        np.testing.assert_allclose(served(IMAGES, training=False), plain(IMAGES, training=False), atol=1e-6)
    assert probabilities.dtype == tf.float32
    np.testing.assert_allclose(probabilities, plain(IMAGES, training=False), atol=1e-5)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(IMAGES, training=False)), before)
    assert {layer.compute_dtype for layer in model.layers} & {"float16", "bfloat16"}


@pytest.mark.slow
@pytest.mark.parametrize("make", [with_batch_norm, with_float32_softmax, with_nested])
@pytest.mark.parametrize("policy", MIXED)
def test_their_versions_pass_the_strict_proof_of_float32(make, policy, tmp_path):
    version = kc.export(under(policy, make), tmp_path / "photos", ["a", "b", "c"])
    assert kc.verify(version).largest_difference <= 1e-4


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "float64"])
def test_weights_of_other_floats_are_taken_as_they_are(policy):
    model, plain = under(policy, with_batch_norm), with_batch_norm()
    plain.set_weights([keras.ops.convert_to_numpy(keras.ops.cast(weight, "float32")) for weight in model.weights])
    with in_float32(model) as served:
        np.testing.assert_allclose(
            Network(served).run(IMAGES)["probabilities"], plain(IMAGES, training=False), atol=1e-5
        )
    assert {weight.dtype for weight in model.weights} == {policy}


def test_a_model_in_float32_is_left_alone():
    model = with_batch_norm()
    with in_float32(model) as served:
        assert served is model


def test_the_policies_are_back_after_a_failure():
    model = under("mixed_bfloat16", with_batch_norm)
    with pytest.raises(KeyError), in_float32(model):
        raise KeyError
    assert model.layers[1].dtype_policy.name == "mixed_bfloat16"
