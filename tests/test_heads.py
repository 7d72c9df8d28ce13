import keras
import numpy as np
import pytest

from keras_cnn import heads

pytestmark = pytest.mark.any_backend

MAPS = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype("float32")


def make(head, shape=(4, 5, 6)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, head(inputs))


def names(head):
    return [layer.name for layer in make(head).layers[1:]]


def test_layer_names_are_the_same_for_every_network():
    assert names(heads.classification(3, dropout=0.2)) == ["pool", "dropout", "logits", "probabilities"]
    assert names(heads.classification(3)) == ["pool", "logits", "probabilities"]
    assert names(heads.multi_label(1)) == ["pool", "logits", "probabilities"]
    assert names(heads.regression(2, dropout=0.2)) == ["pool", "dropout", "outputs"]
    assert names(heads.features()) == ["pool"]
    assert names(heads.dense_prediction(3)) == ["logits", "probabilities"]


def test_dropout_has_the_rate_that_was_asked_for():
    for head in (heads.classification, heads.multi_label, heads.regression):
        assert make(head(3, dropout=0.3)).get_layer("dropout").rate == 0.3


def softmax(z):
    return np.exp(z) / np.exp(z).sum(-1, keepdims=True)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (heads.classification(3, dropout=0.5), lambda x, w, b: softmax(x.mean((1, 2)) @ w + b)),
        (heads.multi_label(3), lambda x, w, b: 1 / (1 + np.exp(-(x.mean((1, 2)) @ w + b)))),
        (heads.regression(3), lambda x, w, b: x.mean((1, 2)) @ w + b),
        (heads.dense_prediction(3), lambda x, w, b: softmax(x @ w + b)),
    ],
    ids=["classification", "multi_label", "regression", "dense_prediction"],
)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_what_heads_compute(head, expected, data_format):
    first = data_format == "channels_first"
    keras.config.set_image_data_format(data_format)
    try:
        model = make(head, (6, 4, 5) if first else (4, 5, 6))
    finally:
        keras.config.set_image_data_format("channels_last")
    rng = np.random.default_rng(1)
    kernel, bias = rng.normal(size=(6, 3)), rng.normal(size=3)
    model.set_weights([kernel.reshape(model.weights[0].shape), bias])
    y = keras.ops.convert_to_numpy(model(MAPS.transpose(0, 3, 1, 2) if first else MAPS, training=False))
    y = y.transpose(0, 2, 3, 1) if first and y.ndim == 4 else y
    np.testing.assert_allclose(y, expected(MAPS, kernel, bias), atol=1e-6)


def test_features_are_the_means_over_positions():
    y = keras.ops.convert_to_numpy(make(heads.features())(MAPS))
    np.testing.assert_allclose(y, MAPS.mean((1, 2)), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_heads_compute_in_float32_under_every_policy(policy):
    keras.config.set_dtype_policy(policy)
    try:
        all_heads = (heads.classification(2, 0.1), heads.regression(), heads.features(), heads.dense_prediction(2))
        models = [make(head) for head in all_heads]
    finally:
        keras.config.set_dtype_policy("float32")
    for model in models:
        assert {layer.compute_dtype for layer in model.layers[1:]} == {"float32"}


def test_arguments_that_cannot_be_are_refused():
    for head, arguments, text in (
        ("classification", (1,), "`classes` must be an integer of at least 2. Received: classes=1."),
        ("multi_label", (0,), "`classes` must be an integer of at least 1. Received: classes=0."),
        ("regression", (1.5,), "`units` must be an integer of at least 1. Received: units=1.5."),
        ("dense_prediction", (1,), "`classes` must be an integer of at least 2. Received: classes=1."),
        ("classification", (2, 1.0), "`dropout` must be a number in [0, 1). Received: dropout=1.0."),
    ):
        with pytest.raises(ValueError) as error:
            getattr(heads, head)(*arguments)
        assert str(error.value) == f"{head}: {text}"
