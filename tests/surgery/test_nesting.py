"""Nested models: flattened by `unnest`, and cut at any depth."""

import keras
import numpy as np
import pytest

import keras_cnn as kc

pytestmark = pytest.mark.any_backend


def encoder(name="encoder"):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    inner = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Conv2D(5, 3, name="deep")], name="inner")
    return keras.Model(inputs, {"deep": inner(x), "shallow": x + 1.0}, name=name)


def twins():
    """Two images through one encoder of two levels, and a head; a layer outside the encoder has the name of one within."""
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


def test_unnested_models_compute_the_same_with_the_same_layers():
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


def test_only_new_shapes_are_computed():
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


def test_dropout_of_an_inner_model_in_training_stays_active():
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
    """Takes any keywords; Keras does not pass it `training`."""

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
    """A classifier on a base that is called as in Keras' guide to transfer learning: with `training=False`."""
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
def test_training_is_passed_to_the_layers_that_take_it_and_to_no_others(case):
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
        one(photos, training=True)  # as `fit` does: in Keras it overrides the `training` of the base
        found.append(keras.ops.convert_to_numpy(norm.moving_mean))
        norm.moving_mean.assign(start)
    np.testing.assert_allclose(*found, rtol=1e-5)
    assert (found[0] != start).all()


def test_an_argument_of_none_does_not_override_the_inner_one():
    within = keras.Input((100,))
    inner = keras.Model(within, keras.layers.Dropout(0.5)(within, training=True))
    inputs = keras.Input((100,))
    flat = kc.unnest(keras.Model(inputs, inner(inputs, training=None)))
    assert 0 in keras.ops.convert_to_numpy(flat(np.ones((1, 100), "float32")))


def test_dropout_within_a_layer_stays_active():
    inputs = keras.Input((100,))
    inner = keras.Sequential([keras.Input((100,)), Block()])
    model = keras.Model(inputs, inner(inputs, training=True))
    for one in (model, kc.unnest(model)):
        assert 0 in keras.ops.convert_to_numpy(one(np.ones((4, 100), "float32")))


def test_states_of_recurrent_layers_are_passed_on():
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


@pytest.mark.filterwarnings("ignore:Layer 'inner' .* does not support masking")  # Keras warns of each such call
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


def test_subclassed_models_stay_whole():
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


def test_cut_does_not_call_the_layers_of_a_flat_model_again():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Flatten()(keras.layers.Conv2D(4, 3, name="conv")(inputs)))
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
