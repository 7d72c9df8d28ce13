"""A model with batch normalisation folded into its convolutions computes the same."""

import keras
import numpy as np
import pytest
from helpers.folding_cases import FOLDS, L, assert_same_outputs, bn, network, norms, with_random_statistics

import keras_cnn as kc
from keras_cnn import surgery

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize("case", FOLDS)
def test_everything_folds(case):
    model = network(FOLDS[case])
    weights = [keras.ops.convert_to_numpy(weight).copy() for weight in model.weights]
    folded = kc.fold_batch_norm(model)
    assert norms(model) and not norms(folded) and not surgery.unfolded_batch_norms(model) and folded.name == "network"
    assert_same_outputs(folded, model, (8, 9, 3))
    assert all(np.array_equal(a, keras.ops.convert_to_numpy(b)) for a, b in zip(weights, model.weights, strict=True))
    kept = {layer.name for layer in folded._flatten_layers()}
    assert kept <= {layer.name for layer in model._flatten_layers()}


def two_uses(x):
    y = L.Conv2D(4, 3, name="conv")(x)
    return L.Add(name="sum")([bn("bn")(y), y])


def shared_apart(x):
    conv = L.Conv2D(4, 3, name="conv")
    return L.Add(name="sum")([bn("bn")(conv(x)), conv(L.Rescaling(2.0)(x))])


def ahead_of_two(x):
    x = bn("bn")(x)
    return L.Add(name="sum")([L.Conv2D(4, 3)(x), L.Conv2D(4, 3)(x)])


def ahead_of_shared(x):
    conv = L.Conv2D(4, 3, name="conv")
    return L.Add(name="sum")([conv(bn("bn")(x)), conv(x)])


def with_lora(x):
    dense = L.Dense(4, name="dense")
    x = dense(x)
    dense.enable_lora(2)
    return bn("bn")(x)


class Standardized(L.Conv2D):
    """Weight standardisation: it does not multiply with its kernel itself."""

    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, kernel / keras.ops.std(kernel))


class Block(L.Layer):
    def build(self, shape):
        self.norm = bn("norm")
        self.norm.build(shape)

    def call(self, x):
        return self.norm(x)


STAYS = {
    "activation": (
        lambda x: bn("bn")(L.Conv2D(4, 3, activation="relu", name="conv")(x)),
        "'conv' before it has an activation; the model ends with it",
    ),
    "other uses": (
        two_uses,
        "the output of 'conv' before it has other uses; 'sum' (Add) follows it",
    ),
    "shared": (shared_apart, "the output of 'conv' before it has other uses; 'sum' (Add) follows it"),
    "before activation": (
        lambda x: L.Conv2D(4, 3)(L.ReLU(name="relu")(bn("bn")(x))),
        "the model begins with it; 'relu' (ReLU) follows it",
    ),
    "before zeros": (
        lambda x: L.Conv2D(4, 3, padding="same", name="conv")(bn("bn")(x)),
        "the model begins with it; 'conv' after it pads with zeros",
    ),
    "before numeric zeros": (
        lambda x: kc.layers.Conv2D(4, 3, padding=1, name="conv")(bn("bn")(L.ReLU(name="relu")(x))),
        "it follows 'relu' (ReLU); 'conv' after it pads with zeros",
    ),
    "before groups": (
        lambda x: L.Conv2D(3, 3, groups=3, name="conv")(bn("bn")(x)),
        "the model begins with it; 'conv' after it has groups",
    ),
    "before two": (ahead_of_two, "the model begins with it; its output has several uses"),
    "before shared": (ahead_of_shared, "the model begins with it; 'conv' after it is used several times"),
    "other axis": (
        lambda x: bn("bn", axis=1)(L.Conv2D(4, 3, name="conv")(x)),
        "it normalises another axis than that of the channels of 'conv'; the model ends with it",
    ),
    "other dtype": (
        lambda x: bn("bn", dtype="float16")(L.Conv2D(4, 3, name="conv")(x)),
        "'conv' computes in another dtype; the model ends with it",
    ),
    "LoRA": (with_lora, "'dense' is quantized or has LoRA weights; the model ends with it"),
    "batch statistics": (
        lambda x: bn("bn")(L.Conv2D(4, 3)(x), training=True),
        "it is called with training=True, for the statistics of each batch",
    ),
    "subclass": (
        lambda x: bn("bn")(Standardized(4, 3, name="conv")(x)),
        "it follows 'conv' (Standardized); the model ends with it",
    ),
    "nested, in training": (
        lambda x: keras.Sequential([L.Conv2D(4, 3), bn("bn")], name="block")(x, training=True),
        "the model around it is called with training=True",
    ),
    "custom layer": (lambda x: Block(name="block")(x), "Keras keeps no graph of the layers within a layer"),
}


@pytest.mark.parametrize("case", STAYS)
def test_batch_norms_that_cannot_be_folded_stay_and_the_reason_is_given(case):
    function, reason = STAYS[case]
    model = network(function)
    folded = kc.fold_batch_norm(model)
    assert folded is model
    assert surgery.unfolded_batch_norms(model) == {
        {"custom layer": "block/norm", "nested, in training": "block/bn"}.get(case, "bn"): reason
    }


def test_each_of_several_is_folded_or_listed():
    def function(x):
        x = L.ReLU()(bn("bn1")(L.Conv2D(4, 3)(x)))
        inputs = keras.Input(x.shape[1:])
        y = bn("bn3")(L.Conv2D(4, 3)(bn("bn2")(L.MaxPooling2D()(inputs))))
        x = keras.Model(inputs, [bn("bn4")(L.ReLU()(y)), y], name="inner")(x)
        return [bn("bn5")(L.Conv2D(2, 1)(x[0])), bn("bn6")(x[1])]

    model = network(function)
    folded = kc.fold_batch_norm(model)
    assert set(surgery.unfolded_batch_norms(model)) == {"inner/bn4", "bn6"}
    assert surgery.unfolded_batch_norms(folded) == surgery.unfolded_batch_norms(model)
    assert sorted(norms(folded)) == ["bn4", "bn6"]
    assert_same_outputs(folded, model, (8, 9, 3))
    assert folded.output_shape == model.output_shape and folded.layers[0] is model.layers[0]


def test_the_weights_by_hand():
    # gamma 6, variance 3 and epsilon 1: scale 3. (2 x + 1 - 5) * 3 + 4 = 6 x - 8.
    inputs = keras.Input((1,))
    model = keras.Model(inputs, bn("bn", epsilon=1.0)(L.Dense(1, name="dense")(inputs)))
    model.set_weights(
        [np.full(weight.shape, value) for weight, value in zip(model.weights, (2, 1, 6, 4, 5, 3), strict=True)]
    )
    kernel, bias = kc.fold_batch_norm(model).get_layer("dense").get_weights()
    np.testing.assert_allclose([kernel.item(), bias.item()], [6, -8], rtol=1e-6)


def test_channels_first():
    inputs = keras.Input((3, 8, 9))
    x = bn(axis=1)(L.Conv2D(4, 3, data_format="channels_first", name="conv")(inputs))
    x = bn(axis=1)(L.DepthwiseConv2D(3, data_format="channels_first")(L.ReLU()(x)))
    model = with_random_statistics(keras.Model(inputs, x))
    folded = kc.fold_batch_norm(model)
    assert not norms(folded)
    assert_same_outputs(folded, model, (3, 8, 9))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_is_kept(policy):
    inputs = keras.Input((8, 9, 3))
    x = L.BatchNormalization(dtype=policy)(L.Conv2D(4, 3, dtype=policy, name="conv")(inputs))
    model = keras.Model(inputs, x)
    folded = kc.fold_batch_norm(model)
    assert folded.get_layer("conv").dtype_policy.name == policy and folded.output.dtype == policy.removeprefix("mixed_")
    assert_same_outputs(folded, model, (8, 9, 3), tolerance=0.02)


def test_a_folded_model_saves_and_loads(tmp_path):
    model = network(FOLDS["nested"])
    kc.fold_batch_norm(model).save(tmp_path / "folded.keras")
    loaded = keras.models.load_model(tmp_path / "folded.keras")
    assert not norms(loaded)
    assert_same_outputs(loaded, model, (8, 9, 3))


@pytest.mark.slow
def test_the_embedded_network():
    model = kc.load_backbone("efficientnet_lite0", input_shape=(32, 32, 3)).model
    folded = kc.fold_batch_norm(model)
    assert not norms(folded) and len(folded.layers) == len(model.layers) - 49  # the 49 of EfficientNet-Lite0
    assert_same_outputs(folded, model, (32, 32, 3))
    # Per channel, four numbers are gone, and a bias is new.
    gammas = sum(int(np.prod(weight.shape)) for weight in model.weights if weight.path.endswith("gamma"))
    assert folded.count_params() == model.count_params() - 3 * gammas


def test_subclassed_models_are_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(
        ValueError, match=r"^fold_batch_norm: the model must be functional or Sequential\. Received: 'own'"
    ):
        kc.fold_batch_norm(Own(name="own"))
