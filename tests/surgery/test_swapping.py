"""A new head: the rest of the network stays, and a head with another meaning is refused."""

import keras
import numpy as np
import pytest
from helpers.slow import mark_slow

import keras_cnn as kc

pytestmark = pytest.mark.any_backend

L = keras.layers


def classifier(nested):
    """Features of 4 channels, pooled, 3 classes; nested in another model or not."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    model = keras.Model(inputs, kc.heads.classification(3, dropout=0.2)(x), name="network")
    outer = keras.Input((8, 8, 3))
    return keras.Model(outer, model(keras.layers.Rescaling(2.0)(outer)), name="outer") if nested else model


def inside(model):
    return next((layer for layer in model.layers if isinstance(layer, keras.Model)), model)


@pytest.mark.parametrize("nested", [False, True])
def test_a_swapped_head_keeps_the_rest(nested):
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
        ValueError, match=r"swap_head: the output must come from a Dense layer .*'batch_norm' comes first"
    ):
        kc.swap_head(keras.Model(inputs, keras.layers.BatchNormalization(name="batch_norm")(inputs)), 2)
    with pytest.raises(ValueError, match=r"swap_head: `classes` must be an integer of at least 1"):
        kc.swap_head(classifier(False), 0)


# More heads


def ends(*layers):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="body")(inputs)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


ENDS = {
    "dense, softmax": lambda: [L.GlobalAveragePooling2D(), L.Dense(3, name="head"), L.Softmax()],
    "dropout, activation": lambda: [L.Flatten(), L.Dense(3, name="head"), L.Dropout(0.5), L.Activation("sigmoid")],
    "operation": lambda: [L.Flatten(), L.Dense(3, name="head"), keras.ops.softmax],
    "convolution, reshape": lambda: [L.Conv2D(3, 6, name="head"), L.Reshape((3,)), L.Activation("softmax")],
    "convolution, pooling": lambda: [L.Conv2D(3, 1, name="head"), L.GlobalMaxPooling2D(), L.Softmax()],
    "mixed precision": lambda: [
        L.Flatten(),
        L.Dense(3, name="head", dtype="mixed_float16"),
        L.Softmax(dtype="float32"),
    ],
    "sequence": lambda: [L.Flatten(), keras.Sequential([L.Dense(6), L.Dense(3, name="head"), L.Softmax()], name="top")],
    "two levels": lambda: [keras.Sequential([L.Flatten(), keras.Sequential([L.Dense(3, name="head")])], name="top")],
}


@pytest.mark.parametrize("case", ENDS)
def test_heads_of_many_kinds(case):
    model = ends(*ENDS[case]())
    swapped = kc.swap_head(model, 7)
    assert swapped.output_shape == (None, 7) and model.output_shape == (None, 3)
    assert swapped.get_layer("body") is model.get_layer("body")
    parts = [(a, b) for a, b in zip(model._flatten_layers(), swapped._flatten_layers(), strict=True)]
    assert all(a.name == b.name and type(a) is type(b) and a.dtype_policy.name == b.dtype_policy.name for a, b in parts)
    changed = {a.name for a, b in parts if a.weights and a is not b and a.name in ("body", "head")}
    assert changed == {"head"}
    model(np.zeros((1, 8, 8, 3), "float32")), swapped(np.zeros((1, 8, 8, 3), "float32"))


@pytest.mark.parametrize("sequential", [False, True])
def test_weight_files_fit_except_for_the_head(sequential, tmp_path):
    def model():
        top = keras.Sequential([keras.Input((144,)), L.Dense(6), L.Dense(3), L.Softmax()])
        layers = [keras.Input((8, 8, 3)), L.Conv2D(4, 3), L.BatchNormalization(), L.Flatten(), top]
        return keras.Sequential(layers) if sequential else ends(*layers[2:])

    trained = model()
    trained.save_weights(tmp_path / "old.weights.h5")
    swapped = kc.swap_head(model(), 7)
    with pytest.warns(UserWarning, match="1 objects could not be loaded"):
        swapped.load_weights(tmp_path / "old.weights.h5", skip_mismatch=True)
    assert type(swapped) is type(trained)
    for found, expected in zip(swapped.weights[:-2], trained.weights[:-2], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_heads_that_cannot_be_swapped():
    inputs = keras.Input((4,))
    dense = L.Dense(4, name="dense")
    for outputs, expected in (
        (
            [L.Dense(2)(inputs), L.Dense(3)(inputs)],
            r"swap_head: the model must have one output\. Received: 'm', which has 2\.",
        ),
        (dense(dense(inputs)), r"swap_head: the output must come from .*'dense' comes first"),
        (L.Add(name="sum")([L.Dense(2)(inputs), L.Dense(2)(inputs)]), r"swap_head: .*, where 'sum' comes first"),
        (inputs + 1, r"swap_head: .*, where 'the input' comes first"),
    ):
        with pytest.raises(ValueError, match=expected):
            kc.swap_head(keras.Model(inputs, outputs, name="m"), 3)
    grouped = keras.Sequential([keras.Input((4, 4, 4)), L.Conv2D(4, 1, groups=2, name="head")])
    with pytest.raises(
        ValueError, match=r"swap_head: `classes` must be a multiple of 2, the groups of the head 'head'\."
    ):
        kc.swap_head(grouped, 3)


def test_a_subclassed_model_is_refused():
    class Custom(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match=r"^swap_head: the model must be functional or Sequential"):
        kc.swap_head(Custom(), 3)


# Heads of frozen models


def base(name="base"):
    return keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(4, 3, name="body"), L.BatchNormalization()], name=name)


def nested_head():
    """A base and a head, each a nested model."""
    top = keras.Sequential([keras.Input((6, 6, 4)), L.Flatten(), L.Dense(3, name="head"), L.Softmax()], name="top")
    return keras.Sequential([keras.Input((8, 8, 3)), base(), top])


def grown_while_frozen():
    """A model that was frozen before it got its layers, which are trainable."""
    model = keras.Sequential([keras.Input((8, 8, 3))])
    model.trainable = False
    for layer in (L.Conv2D(4, 3, name="body"), L.Flatten(), L.Dense(3, name="head")):
        model.add(layer)
    return model


def pooled(head):
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, head(base()(inputs)))


TO_FREEZE = {
    "functional": lambda: ends(L.Flatten(), L.Dense(3, name="head"), L.Softmax()),
    "nested": nested_head,
    "grown": grown_while_frozen,
    "classification": lambda: pooled(kc.heads.classification(3, dropout=0.2)),
    "several labels": lambda: pooled(kc.heads.multi_label(3)),
    "dense prediction": lambda: pooled(kc.heads.dense_prediction(3)),
}
FREEZE = {
    "trainable": lambda model: setattr(model, "trainable", False),
    "kc.freeze": kc.freeze,
    "each layer": lambda model: [setattr(layer, "trainable", False) for layer in model.layers],
}


@pytest.mark.parametrize("freeze", mark_slow(FREEZE, except_for=["kc.freeze"]))
@pytest.mark.parametrize("case", TO_FREEZE)
def test_only_the_new_head_of_a_frozen_model_learns(case, freeze):
    model = TO_FREEZE[case]()
    FREEZE[freeze](model)
    swapped = kc.swap_head(model, 5)
    assert [tuple(weight.shape) for weight in swapped.trainable_weights][-1:] == [(5,)]
    assert len(swapped.trainable_weights) == 2 and not model.trainable_weights
    old = {id(weight) for weight in model.weights}
    before = {weight.path: np.array(weight) for weight in swapped.weights if id(weight) in old}
    head = [np.array(weight) for weight in swapped.trainable_weights]
    swapped.compile(keras.optimizers.SGD(1.0), "mse")
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    swapped.fit(images, np.random.default_rng(1).uniform(size=(4, *swapped.output_shape[1:])), verbose=0)
    assert all((np.array(w) != h).any() for w, h in zip(swapped.trainable_weights, head, strict=True))
    for weight in swapped.weights:
        if id(weight) in old:
            np.testing.assert_array_equal(weight, before[weight.path])


def test_trainable_layers_stay_trainable_with_a_new_head():
    model = nested_head()
    model.get_layer("base").get_layer("body").trainable = False
    swapped = kc.swap_head(model, 5)
    assert [w.path for w in swapped.trainable_weights if "head" not in w.path] == [
        w.path for w in model.trainable_weights if "head" not in w.path
    ]
    assert len(swapped.trainable_weights) == 4


@pytest.mark.parametrize("freeze", FREEZE)
def test_a_frozen_model_stays_frozen_with_other_channels(freeze):
    model = nested_head()
    FREEZE[freeze](model)
    assert not kc.adapt_input_channels(model, 1).trainable_weights


class PerClass(keras.initializers.Initializer):
    """Values for three classes, whatever the shape."""

    def __call__(self, shape, dtype=None):
        return keras.ops.convert_to_tensor(np.arange(3.0), dtype)


def halves(shape, dtype=None):
    return keras.ops.full(shape, 0.5, dtype)


@pytest.mark.parametrize(
    ("initializer", "expected"),
    [
        (keras.initializers.Constant(np.log([0.9, 0.09, 0.01])), 0),  # as in TensorFlow's guide to imbalanced data
        (keras.initializers.Constant(np.log([0.9])), 0),
        (PerClass(), 0),
        (keras.initializers.Constant(-4.6), -4.6),  # Lin et al., 2017, section 4.1: the same for any number of classes
        (halves, 0.5),
    ],
)
def test_biases_of_the_old_classes_are_not_those_of_the_new_ones(initializer, expected):
    inputs = keras.Input((4,))
    size = len(initializer.value) if np.ndim(getattr(initializer, "value", 0)) else 3
    model = keras.Model(inputs, L.Dense(size, bias_initializer=initializer, name="head")(inputs))
    np.testing.assert_allclose(kc.swap_head(model, 5).get_layer("head").bias, [expected] * 5, rtol=1e-6)


def test_kernels_of_the_old_classes_are_not_those_of_the_new_ones():
    inputs = keras.Input((4,))
    kernel = keras.initializers.Constant(np.arange(12.0).reshape(4, 3))
    model = keras.Model(inputs, L.Dense(3, kernel_initializer=kernel, name="head")(inputs))
    new = [np.array(kc.swap_head(model, 5).get_layer("head").kernel) for _ in range(2)]
    assert new[0].shape == (4, 5) and np.abs(new).max() <= np.sqrt(6 / 9) and (new[0] != new[1]).any()  # Glorot's limit


SINGLE = {
    "dense": lambda: [L.Flatten(), L.Dense(1, "sigmoid", name="head")],
    "activation": lambda: [L.Flatten(), L.Dense(1, name="head"), L.Activation("sigmoid")],
    "operation": lambda: [L.Flatten(), L.Dense(1, name="head"), keras.ops.sigmoid],
    "nested": lambda: [keras.Sequential([L.Flatten(), L.Dense(1, name="head")], name="top"), L.Activation("sigmoid")],
    "a label per position": lambda: [L.Conv2D(1, 1, activation="sigmoid", name="head")],
    "multi_label": lambda: [kc.heads.multi_label(1)],
}


@pytest.mark.parametrize("case", SINGLE)
def test_one_sigmoid_does_not_become_several(case):
    model = ends(*SINGLE[case]())
    expected = (
        r"^swap_head: `classes` must be 1 for a model that ends in one sigmoid.* classes=5\. Cut .* '(head|top|logits)'"
    )
    with pytest.raises(ValueError, match=expected):
        kc.swap_head(model, 5)
    assert kc.swap_head(model, 1).output_shape == model.output_shape


def test_several_sigmoids_stay_sigmoids_and_a_softmax_needs_two_classes():
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    several = kc.swap_head(ends(kc.heads.multi_label(3)), 2)
    assert abs(keras.ops.convert_to_numpy(several(images)).sum(-1) - 1).min() > 1e-3
    for head in (kc.heads.classification(3), lambda x: L.Dense(3, "softmax")(L.Flatten()(x))):
        with pytest.raises(
            ValueError, match=r"^swap_head: `classes` must be at least 2 for a model that ends in softmax"
        ):
            kc.swap_head(ends(head), 1)
    assert kc.swap_head(ends(L.Flatten(), L.Dense(1)), 3).output_shape == (None, 3)  # a regression
