"""Parts of a model do together what the whole does."""

from functools import partial

import keras
import numpy as np
import pytest

import keras_cnn as kc
from keras_cnn.surgery import divides, output_of, split

pytestmark = pytest.mark.any_backend


def test_front_and_rest_give_what_the_whole_gives_and_share_its_weights():
    stage = [partial(kc.blocks.residual, filters=4)] * 2
    model = kc.build((8, 8, 3), {"c1": stage, "c2": stage}, kc.heads.classification(3))
    front, rest = split(model, "c1")
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
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
    with pytest.raises(
        ValueError, match=r"every path must pass through `after`, and on from there\. Received: after='inner'"
    ):
        split(model, "inner")


def test_where_a_model_can_be_split():
    image = keras.Input((8, 8, 3))
    stem = keras.layers.Conv2D(4, 3, padding="same", name="stem")(image)
    left = keras.layers.Conv2D(4, 1, name="left")(stem)
    join = keras.layers.Add(name="join")([left, stem])
    model = keras.Model(image, [keras.layers.ReLU(name="end")(join), keras.layers.Flatten(name="other")(join)])
    keras.layers.Conv2D(2, 1)(stem)  # of another model
    divided = [name for name in ("stem", "left", "join", "end", "other") if divides(model, name)]
    assert divided == ["stem", "join"]


def test_a_split_before_a_tensor_that_is_used_twice():
    image = keras.Input((4, 4, 2))
    x = keras.layers.Conv2D(2, 1, name="conv")(image)
    model = keras.Model(image, keras.layers.Add()([x, x]))
    front, rest = split(model, "conv")
    values = np.ones((1, 4, 4, 2), "float32")
    np.testing.assert_array_equal(rest(front(values)), 2 * front(values))


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


# Nested models


def encoder(name="encoder"):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    inner = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Conv2D(5, 3, name="deep")], name="inner")
    return keras.Model(inputs, {"deep": inner(x), "shallow": x + 1.0}, name=name)


def twins():
    """Two images through one encoder of two levels, and a head with a layer of a name that is in there too."""
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    shared = encoder()
    x, y = shared(left), shared(keras.layers.Conv2D(3, 1, name="conv")(right))
    x = keras.layers.Subtract(name="difference")([x["deep"], y["deep"]])
    outputs = [keras.layers.Dense(2, name="logits")(keras.layers.Flatten()(x)), y["shallow"]]
    return keras.Model({"left": left, "right": right}, outputs, name="twins")


def pair(seed=0):
    random = np.random.default_rng(seed)
    return {side: random.normal(size=(2, 8, 8, 3)).astype("float32") for side in ("left", "right")}


def names(model):
    return [layer.name for layer in model.layers]


def test_unnested_models_give_the_same_with_the_same_layers():
    model = twins()
    inner = model.get_layer("encoder")
    deep, nested_conv, outer_conv = inner.get_layer("inner").layers[0], inner.layers[1], model.get_layer("conv")
    flat = kc.unnest(model)
    for training in (False, True):
        for found, expected in zip(flat(pair(), training=training), model(pair(), training=training), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert not any(isinstance(layer, keras.Model) for layer in flat.layers) and flat.name == "twins"
    assert flat.get_layer("deep") is deep and flat.get_layer("conv") is outer_conv
    assert flat.get_layer("encoder_conv") is nested_conv and names(flat).count("deep") == 1
    assert {id(w) for w in flat.weights} == {id(w) for w in model.weights} and len(flat.weights) == len(model.weights)
    assert kc.unnest(flat) is flat


def photo_model():
    inputs = keras.Input((8, 8, 3))
    x = encoder()(keras.layers.Rescaling(2.0)(inputs))["deep"]
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))


def test_unnested_models_train_as_the_nested_ones(tmp_path):
    photos, models = pair()["left"], []
    for rewrite in (lambda model: model, kc.unnest):
        keras.utils.set_random_seed(0)
        model = rewrite(photo_model())
        model.compile(keras.optimizers.SGD(0.01), "mse", run_eagerly=True)
        model.fit(photos, np.ones((2, 2)), verbose=0)
        models.append(model)
    nested, flat = models
    np.testing.assert_allclose(flat(photos), nested(photos), rtol=1e-5, atol=1e-6)
    flat.save(tmp_path / "flat.keras")
    flat.save_weights(tmp_path / "flat.weights.h5")
    fresh = kc.unnest(photo_model())
    fresh.load_weights(tmp_path / "flat.weights.h5")
    for loaded in (keras.models.load_model(tmp_path / "flat.keras"), fresh):
        np.testing.assert_array_equal(loaded(photos), flat(photos))


def test_only_new_shapes_are_asked_for():
    class Asked(keras.layers.Layer):
        times = 0

        def compute_output_shape(self, shape):
            Asked.times += 1
            return (*shape[:-1], 2 * shape[-1])

        def call(self, x):
            return keras.ops.concatenate([x, x], -1)

    inner = keras.Sequential([keras.Input((None, 3)), Asked()])
    for length, times in ((None, 0), (4, 1)):
        model = keras.Sequential([keras.Input((length, 3)), keras.layers.ReLU(), inner])
        Asked.times = 0
        flat = kc.unnest(model)
        assert (Asked.times, flat.output_shape) == (times, (None, length, 6))
        np.testing.assert_array_equal(flat(np.ones((1, 4, 3))), np.ones((1, 4, 6)))


def test_dropout_that_is_on_within_stays_on():
    inputs = keras.Input((100,))
    inner = keras.Sequential([keras.Input((100,)), keras.layers.Dropout(0.5)])
    model = keras.Model(inputs, inner(inputs, training=True))
    flat = kc.unnest(model)
    x = np.ones((1, 100), "float32")
    assert 0 in keras.ops.convert_to_numpy(flat(x)) and 0 in keras.ops.convert_to_numpy(model(x))
    assert 0 not in keras.ops.convert_to_numpy(flat(x, training=False))


class Block(keras.layers.Layer):
    """Layers within a layer whose `call` has no `training`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm, self.drop = keras.layers.BatchNormalization(name="norm"), keras.layers.Dropout(0.5, name="drop")

    def build(self, shape):
        self.norm.build(shape)

    def call(self, x):
        return self.drop(self.norm(x))


class Keywords(keras.layers.Layer):
    """Takes keywords; Keras gives `training` to none of these."""

    def call(self, x, **kwargs):
        assert "training" not in kwargs
        return 2.0 * x


def joined(name="base"):
    """Every kind of layer between an image and features: those that take `training`, those that do not, and operations."""
    image = keras.Input((8, 8, 3))
    x = Keywords(name="keywords")(keras.layers.Conv2D(4, 3, padding="same", name="conv")(image))
    y = keras.layers.BatchNormalization(name="norm")(x)
    y = keras.layers.Add(name="add")([y, Block(name="block")(x)])
    y = keras.layers.Concatenate(name="both")([keras.ops.relu(y), x])
    y = keras.layers.Reshape((64, 8))(keras.layers.Identity()(y))
    return keras.Model(image, keras.layers.Flatten()(keras.layers.Permute((2, 1))(y)), name=name)


def as_in_the_guide(call):
    """A classifier on a base that is called as Keras' guide to transfer learning has it: with `training=False`."""
    image = keras.Input((8, 8, 3))
    return keras.Model(image, keras.layers.Dense(2, name="logits")(call(image)))


def two_deep(image):
    inner = joined("inner")
    within = keras.Input((8, 8, 3))
    return keras.Model(within, inner(within, training=True), name="base")(image, training=False)


def called_twice(image):
    base = joined()
    return keras.layers.Subtract()([base(image, training=False), base(2.0 * image, training=None)])


CALLS = {
    "functional": lambda image: joined()(image, training=False),
    "Sequential": lambda image: keras.Sequential([keras.Input((8, 8, 3)), *joined().layers[1:2], Block()])(
        image, training=False
    ),
    "two deep": two_deep,
    "called twice": called_twice,
    "a layer at a time": lambda image: keras.layers.Flatten()(
        keras.layers.Add()([image, Block()(image, training=False)], training=False), training=False
    ),
}


@pytest.mark.parametrize("case", CALLS)
def test_training_goes_to_the_layers_that_take_it_and_to_no_others(case):
    def ending(image):
        x = CALLS[case](image)
        return x if len(x.shape) == 2 else keras.layers.Flatten()(x)

    keras.utils.set_random_seed(0)
    model = as_in_the_guide(ending)
    photos = pair()["left"]
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(np.arange(layer.moving_mean.shape[0]))
    outer = keras.Input((8, 8, 3))
    around = keras.Model(outer, model(outer))  # so that all of it is called again
    expected = model(photos)
    flat = kc.unnest(around)
    assert flat.compute_output_shape((1, 8, 8, 3)) == (1, 2)
    np.testing.assert_allclose(flat(photos), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(flat(photos, training=False), model(photos, training=False), rtol=1e-5, atol=1e-5)


def test_statistics_stay_where_a_base_was_called_for_inference():
    keras.utils.set_random_seed(0)
    model = as_in_the_guide(lambda image: keras.layers.Flatten()(encoder()(image, training=False)["deep"]))
    norm, photos = model.layers[1].get_layer("norm"), pair()["left"]
    start, found = keras.ops.convert_to_numpy(norm.moving_mean), []
    for one in (model, kc.unnest(model)):
        one(photos)
        np.testing.assert_array_equal(norm.moving_mean, start)
        one(photos, training=True)  # as `fit` does: Keras lets it overrule what the base was called with
        found.append(keras.ops.convert_to_numpy(norm.moving_mean))
        norm.moving_mean.assign(start)
    np.testing.assert_allclose(*found, rtol=1e-5)
    assert (found[0] != start).all()


def test_an_argument_that_is_none_leaves_what_is_within():
    within = keras.Input((100,))
    inner = keras.Model(within, keras.layers.Dropout(0.5)(within, training=True))
    inputs = keras.Input((100,))
    flat = kc.unnest(keras.Model(inputs, inner(inputs, training=None)))
    assert 0 in keras.ops.convert_to_numpy(flat(np.ones((1, 100), "float32")))


def test_dropout_within_a_layer_stays_on():
    inputs = keras.Input((100,))
    inner = keras.Sequential([keras.Input((100,)), Block()])
    model = keras.Model(inputs, inner(inputs, training=True))
    for one in (model, kc.unnest(model)):
        assert 0 in keras.ops.convert_to_numpy(one(np.ones((4, 100), "float32")))


def test_states_of_recurrent_layers_are_handed_over():
    def sequence():
        steps, state = keras.Input((5, 3)), keras.Input((4,))
        rnn = keras.layers.GRU(4, dropout=0.5)
        inner = keras.Model([steps, state], rnn(steps, initial_state=state), name="inner")
        outer = [keras.Input((5, 3)), keras.Input((4,))]
        return keras.Model(outer, inner(outer, training=False))

    model = sequence()
    random = np.random.default_rng(0)
    values = [random.normal(size=(2, 5, 3)).astype("float32"), random.normal(size=(2, 4)).astype("float32")]
    flat = kc.unnest(model)
    np.testing.assert_allclose(flat(values), model(values), rtol=1e-6)
    assert flat.compute_output_shape([(2, 5, 3), (2, 4)]) == (2, 4)


@pytest.mark.filterwarnings("ignore:Layer 'inner' .* does not support masking")  # says Keras of each such call
def test_a_model_that_is_called_with_a_mask_stays_whole():
    def masked():
        steps, mask = keras.Input((5, 3)), keras.Input((5,), dtype="bool")
        within = keras.Input((5, 3))
        inner = keras.Model(within, keras.layers.GRU(4, name="deep")(keras.layers.Dense(3)(within)), name="inner")
        return keras.Model([steps, mask], inner(steps, mask=mask))

    model = masked()
    values = [np.random.default_rng(0).normal(size=(1, 5, 3)).astype("float32"), np.array([[1, 1, 1, 0, 0]], bool)]
    flat = kc.unnest(model)
    np.testing.assert_allclose(flat(values), model(values), rtol=1e-6)
    assert not np.allclose(flat(values), flat([values[0], np.ones((1, 5), bool)]))
    with pytest.raises(ValueError, match=r"^cut: 'inner/deep' lies in a model that is called with a mask"):
        kc.cut(model, "deep")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50", "DenseNet121", "NASNetMobile"])
def test_networks_of_keras_called_as_in_the_guide(name):
    size = 224 if name == "NASNetMobile" else 64
    base = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(size, size, 3))
    image = keras.Input((size, size, 3))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(base(image, training=False)))
    photos = np.random.default_rng(0).normal(size=(1, size, size, 3)).astype("float32")
    expected, flat = model(photos), kc.unnest(model)
    np.testing.assert_allclose(flat(photos), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert flat.compute_output_shape((1, size, size, 3)) == (1, model.output_shape[-1])


def test_an_inner_model_casts_its_inputs():
    inputs = keras.Input((4,), dtype="uint8")
    inner_inputs = keras.Input((4,))
    inner = keras.Model(inner_inputs, inner_inputs * 2)
    model = keras.Model(inputs, inner(inputs))
    np.testing.assert_array_equal(kc.unnest(model)(np.array([[1, 2, 3, 255]], "uint8")), [[2, 4, 6, 510]])


class Opaque(keras.Model):
    def __init__(self):
        super().__init__(name="opaque")
        self.hidden = keras.layers.Dense(2, name="hidden")

    def call(self, x):
        return self.hidden(x)


def test_models_that_are_code_stay_whole():
    inputs = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), Opaque()], name="inner")
    flat = kc.unnest(keras.Model(inputs, inner(inputs)))
    assert [type(layer).__name__ for layer in flat.layers] == ["InputLayer", "Opaque"]
    with pytest.raises(ValueError, match=r"^unnest: the model must be functional or Sequential\. Received: 'opaque'"):
        kc.unnest(Opaque())


@pytest.mark.parametrize("name", ["encoder/inner/deep", "inner/deep", "deep"])
def test_cut_reaches_into_nested_models(name):
    # keras.Model(model.input, inner.output) says "not connected": keras #16123.
    model, photos = photo_model(), pair()["left"]
    inner = model.get_layer("encoder")
    with pytest.raises(ValueError, match="not connected"):
        keras.Model(model.input, inner.get_layer("norm").output)
    expected = inner(2 * photos)
    found, norm = kc.cut(model, [name, "norm"])(photos)
    np.testing.assert_allclose(found, expected["deep"], rtol=1e-6)
    np.testing.assert_allclose(norm, expected["shallow"] - 1, rtol=1e-6, atol=1e-6)
    whole = kc.cut(model, "encoder")(photos)
    np.testing.assert_allclose(whole["deep"], expected["deep"], rtol=1e-6)
    assert kc.cut(model, ("norm",)).get_layer("conv") is inner.get_layer("conv")


def test_cut_leaves_a_flat_model_alone():
    model = classifier(False)
    calls = [len(layer._inbound_nodes) for layer in model.layers]
    assert kc.cut(model, "conv").output is model.get_layer("conv").output
    assert [len(layer._inbound_nodes) for layer in model.layers] == calls


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("depp", r"must be a layer of the model, .*Received: layers='depp'\. Did you mean 'encoder/inner/deep'\?"),
        ("encoder/nrom", r"Received: layers='encoder/nrom'\. Did you mean 'encoder/norm'\?"),
        ("zzz", r"must be a layer of the model, such as .*\. Received: layers='zzz'\.$"),
        ("norm", r"^cut: 'twins' calls 'encoder/norm' 2 times\. Cut at a layer that it calls once\."),
    ],
)
def test_names_that_cannot_be_cut_at(name, expected):
    with pytest.raises(ValueError, match=expected):
        kc.cut(twins(), [name])


def test_ambiguous_names_are_listed():
    inputs = keras.Input((8, 8, 3))
    outputs = [encoder(name)(inputs)["deep"] for name in ("first", "second")]
    model = keras.Model(inputs, outputs)
    with pytest.raises(ValueError, match=r"must be one layer .* have that name: first/norm, second/norm\. Give one of"):
        kc.cut(model, "norm")
    kc.cut(model, "second/inner/deep")
    assert names(model.get_layer("second")).count("conv") == 1  # no clash among the layers that are needed
    flat = kc.unnest(model)
    assert {"first_conv", "second_conv", "first_inner_deep", "second_inner_deep"} < set(names(flat))
    for found, expected in zip(flat(pair()["left"]), model(pair()["left"]), strict=True):
        np.testing.assert_array_equal(found, expected)


# More heads


def ends(*layers):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="body")(inputs)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


L = keras.layers
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
def test_files_of_weights_fit_but_for_the_head(sequential, tmp_path):
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
        (dense(dense(inputs)), r"swap_head: the output must be made by .*'dense' comes first"),
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
    with pytest.raises(ValueError, match=r"^swap_head: the model must be functional or Sequential"):
        kc.swap_head(Opaque(), 3)


# Heads of frozen models


def base(name="base"):
    return keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(4, 3, name="body"), L.BatchNormalization()], name=name)


def nested_head():
    """A base and a head that are models of their own."""
    top = keras.Sequential([keras.Input((6, 6, 4)), L.Flatten(), L.Dense(3, name="head"), L.Softmax()], name="top")
    return keras.Sequential([keras.Input((8, 8, 3)), base(), top])


def grown_while_frozen():
    """`trainable = False` of a model that got its layers later: they do not know."""
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


@pytest.mark.parametrize("freeze", FREEZE)
@pytest.mark.parametrize("case", TO_FREEZE)
def test_of_a_frozen_model_the_new_head_alone_learns(case, freeze):
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


def test_what_is_trainable_in_a_model_stays_so_with_a_new_head():
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
    """Values for three classes, whatever is asked for."""

    def __call__(self, shape, dtype=None):
        return keras.ops.convert_to_tensor(np.arange(3.0), dtype)


def halves(shape, dtype=None):
    return keras.ops.full(shape, 0.5, dtype)


@pytest.mark.parametrize(
    ("initializer", "expected"),
    [
        (keras.initializers.Constant(np.log([0.9, 0.09, 0.01])), 0),  # as TensorFlow's guide to uneven classes has it
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
    "a label at each place": lambda: [L.Conv2D(1, 1, activation="sigmoid", name="head")],
    "multi_label": lambda: [kc.heads.multi_label(1)],
}


@pytest.mark.parametrize("case", SINGLE)
def test_one_sigmoid_does_not_become_several_unasked(case):
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
    assert abs(several(images).numpy().sum(-1) - 1).min() > 1e-3
    for head in (kc.heads.classification(3), lambda x: L.Dense(3, "softmax")(L.Flatten()(x))):
        with pytest.raises(
            ValueError, match=r"^swap_head: `classes` must be at least 2 for a model that ends in softmax"
        ):
            kc.swap_head(ends(head), 1)
    assert kc.swap_head(ends(L.Flatten(), L.Dense(1)), 3).output_shape == (None, 3)  # a regression
