"""A network adapted to other channels gives the same output for repeated images as for the originals."""

import keras
import numpy as np
import pytest

import keras_cnn as kc

pytestmark = pytest.mark.any_backend

L = keras.layers
SHAPE = (9, 8, 3)
# ImageNet's statistics per channel, of images 0..1.
MEAN, VARIANCE = [0.485, 0.456, 0.406], [0.229**2, 0.224**2, 0.225**2]


def normalization_as_learned():
    layer = L.Normalization(name="norm")
    layer.adapt(np.random.default_rng(1).normal([1, 2, 3], [1, 2, 0.5], (50, *SHAPE)).astype("float32"))
    return layer


def inner(*layers):
    inputs = x = keras.Input(SHAPE, name="inner_input")
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x, name="inner")


class Half(L.Layer):
    """A custom layer."""

    def call(self, x):
        return x / 2


FRONTS = {
    "bare": lambda x: L.Conv2D(4, 3, padding="same", name="first")(x),
    "no bias": lambda x: L.Conv2D(4, 3, strides=2, use_bias=False, name="first")(x),
    "rescaling": lambda x: L.Conv2D(4, 3, name="first")(L.ZeroPadding2D(1)(L.Rescaling(1 / 128, -1.0)(x))),
    "rescaling by channel": lambda x: L.Conv2D(4, 3, padding="same", name="first")(L.Rescaling([1, 2, 3], MEAN)(x)),
    "normalization": lambda x: L.Conv2D(4, 3, padding="same")(L.Normalization(mean=MEAN, variance=VARIANCE)(x)),
    "one statistic": lambda x: L.Conv2D(4, 3, padding="same", name="first")(L.Normalization(mean=2.0, variance=4.0)(x)),
    "normalization, learned": lambda x: L.Conv2D(4, 3, padding="same")(normalization_as_learned()(x)),
    "batch norm": lambda x: L.Conv2D(4, 3, padding="same")(L.BatchNormalization()(x)),
    "blue first": lambda x: L.Conv2D(4, 3, padding="same", name="first")(x[..., ::-1]),
    "blue first, less means": lambda x: L.Conv2D(4, 3)(
        L.Normalization(mean=[104, 117, 124], variance=[1] * 3)(x[..., ::-1])
    ),
    "arithmetic": lambda x: L.Conv2D(4, 3, padding="same", name="first")(keras.ops.clip(x / 2 - 1, -1, 1)),
    "own layer": lambda x: L.Conv2D(4, 3, name="first")(Half()(x)),
    "depthwise": lambda x: L.Conv2D(4, 3)(L.ReLU()(L.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(x))),
    "separable": lambda x: L.SeparableConv2D(4, 3, depth_multiplier=2, padding="same")(x),
    "transposed": lambda x: L.Conv2DTranspose(4, 3, strides=2, name="first")(x),
    "dense": lambda x: L.Dense(4, name="first")(x),
    "reflected": lambda x: kc.layers.Conv2D(4, 3, padding=1, padding_mode="reflect", name="first")(x),
    "two branches": lambda x: L.Add()([L.Conv2D(4, 3, name="first")(x), L.Conv2D(4, 3)(L.Rescaling(2.0)(x))]),
    "joined": lambda x: L.Conv2D(4, 3, name="first")(L.Concatenate()([x, L.Rescaling(2.0)(x)])),
    "around": lambda x: L.Conv2D(4, 3)(L.Concatenate()([L.Conv2D(2, 3, padding="same")(x), x])),
    "nested": lambda x: inner(L.Rescaling(0.5), L.Conv2D(4, 3))(x),
    "nested layers before": lambda x: L.Conv2D(4, 3, name="first")(inner(L.Rescaling(0.5), L.Activation("relu"))(x)),
    "sequence": lambda x: L.Conv2D(4, 3)(keras.Sequential([L.RandomFlip(), L.RandomRotation(0.1)])(x)),
    "shared": lambda x: (lambda conv: L.Add()([conv(x), conv(L.Rescaling(2.0)(x))]))(L.Conv2D(4, 3, name="first")),
}


def network(front):
    inputs = keras.Input(SHAPE, name="image")
    x = L.Conv2D(5, 3, activation="relu", name="second")(FRONTS[front](inputs))
    model = keras.Model(inputs, L.GlobalAveragePooling2D(name="pool")(x), name="network")
    random = np.random.default_rng(0)
    for weight in model.weights:  # so that biases and statistics are not all 0 and 1
        if len(weight.shape) == 1 and "norm" not in weight.path.replace("batch_norm", ""):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
    return model


def repeated(images, channels):
    return images[..., np.arange(channels) % images.shape[-1]]


@pytest.mark.parametrize("front", FRONTS)
def test_repeated_images_give_the_same_output(front):
    model = network(front)
    for channels in (1, 2, 4, 6) if front in ("bare", "blue first", "depthwise") else (1, 5):
        adapted = kc.adapt_input_channels(model, channels)
        assert adapted.input_shape == (None, 9, 8, channels) and adapted.name == "network"
        images = np.random.default_rng(2).normal(size=(2, 9, 8, min(channels, 3))).astype("float32")
        before = keras.ops.convert_to_numpy(model(repeated(images, 3), training=False))
        after = keras.ops.convert_to_numpy(adapted(repeated(images, channels), training=False))
        np.testing.assert_allclose(after, before, atol=1e-4 * np.abs(before).max())
        assert np.ptp(before) > 0.01
        assert adapted.get_layer("second") is model.get_layer("second")
        if "first" in [layer.name for layer in model.layers] and front != "rescaling by channel":
            kernel = adapted.get_layer("first").kernel
            seen = channels * (2 if front == "joined" else 1)
            assert seen in kernel.shape and kernel.shape != model.get_layer("first").kernel.shape


def test_the_kernel_for_gray_is_the_sum_and_for_four_channels_red_is_shared():
    # By hand: gray sees r + g + b; of R G B R, both red channels get half of the red kernel.
    inputs = keras.Input((4, 4, 3))
    conv = L.Conv2D(1, 1, use_bias=False, name="conv")
    model = keras.Model(inputs, conv(inputs))
    conv.kernel.assign(np.array([2.0, 3.0, 5.0]).reshape(1, 1, 3, 1))
    for channels, expected in ((1, [10]), (2, [7, 3]), (4, [1, 3, 5, 1]), (6, [1, 1.5, 2.5] * 2)):
        kernel = kc.adapt_input_channels(model, channels).get_layer("conv").kernel
        np.testing.assert_array_equal(np.ravel(keras.ops.convert_to_numpy(kernel)), expected)
    np.testing.assert_array_equal(np.ravel(keras.ops.convert_to_numpy(conv.kernel)), [2, 3, 5])


def test_more_channels_and_back_are_the_original():
    model = network("bare")
    back = kc.adapt_input_channels(kc.adapt_input_channels(model, 6), 3)
    images = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype("float32")
    np.testing.assert_allclose(back(images), model(images), atol=1e-5)
    assert kc.adapt_input_channels(model, 3) is model


def test_new_channels_learn_separately():
    model = kc.adapt_input_channels(network("normalization"), 6)
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(np.random.default_rng(0).normal(size=(4, 9, 8, 6)), np.ones((4, 5)), verbose=0)
    kernel = keras.ops.convert_to_numpy(model.layers[2].kernel)
    assert not np.allclose(kernel[:, :, :3], kernel[:, :, 3:], atol=1e-5)


def test_everything_else_is_kept():
    model = network("rescaling")
    gray = kc.adapt_input_channels(model, 1)
    pairs = list(zip(model.layers, gray.layers, strict=True))
    assert [new.name for old, new in pairs if new is not old] == ["image", "first"]
    assert all(old.name == new.name for old, new in pairs)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    inputs = keras.Input(SHAPE)
    x = L.ZeroPadding2D(1, dtype=policy)(L.Rescaling(1 / 2, dtype=policy)(inputs))
    model = keras.Model(inputs, L.Conv2D(4, 3, dtype=policy, name="conv")(x))
    images = np.random.default_rng(0).normal(size=(2, 9, 8, 6)).astype("float32")
    images[..., 3:] = images[..., :3]
    adapted = kc.adapt_input_channels(model, 6)
    assert adapted.get_layer("conv").dtype_policy.name == policy
    found, expected = (keras.ops.cast(x, "float32") for x in (adapted(images), model(images[..., :3])))
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_channels_first():
    inputs = keras.Input((3, 9, 8))
    x = L.Normalization(axis=1, mean=MEAN, variance=VARIANCE)(inputs)
    outputs = L.Conv2D(4, 3, data_format="channels_first")(L.ZeroPadding2D(1, data_format="channels_first")(x))
    model = keras.Model(inputs, outputs)
    images = np.random.default_rng(0).normal(size=(2, 3, 9, 8)).astype("float32")
    for channels, given, taken in ((5, images, [0, 1, 2, 0, 1]), (1, images[:, [0, 0, 0]], [0])):
        adapted = kc.adapt_input_channels(model, channels)
        np.testing.assert_allclose(adapted(images[:, taken]), model(given), atol=1e-5)


def test_an_adapted_model_saves_and_loads(tmp_path):
    for channels in (1, 2, 6):
        model = kc.adapt_input_channels(network("normalization"), channels)
        model.save(tmp_path / "model.keras")
        images = np.random.default_rng(0).normal(size=(2, 9, 8, channels)).astype("float32")
        np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(images), model(images))


def gray_level(x):
    return L.Conv2D(4, 3)(keras.ops.dot(x, np.array([[0.3], [0.6], [0.1]], "float32")))


def shared_with_its_mirror(x):
    conv = L.Conv2D(4, 3, name="conv")
    return L.Subtract()([conv(x), conv(keras.ops.flip(x, -1))])


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        (
            lambda x: L.Conv2D(3, 3, groups=3, name="conv")(x),
            "'conv' of class Conv2D, which has weights that are not per",
        ),
        (
            lambda x: L.Conv2D(4, 3)(L.LayerNormalization(name="ln")(x)),
            "'ln' of class LayerNormalization, which has wei",
        ),
        (lambda x: L.Conv2D(4, 3)(L.PReLU(name="prelu")(x)), "'prelu' of class PReLU, which has weights"),
        (gray_level, r"'dot\w*' of class Dot, which does not"),
        (lambda x: L.Conv2D(4, 3)(L.Softmax(name="soft")(x)), "'soft' of class Softmax, which does not"),
        (lambda x: L.Flatten(name="flat")(x), "'flat' of class Flatten, which does not"),
        (lambda x: L.Rescaling(2.0)(x), "'m' of class Functional, which has an output without a convolution before it"),
        (shared_with_its_mirror, "'conv' of class Conv2D, which is called for channels in different orders"),
    ],
)
def test_layers_that_take_fewer_channels_only(front, expected):
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, front(inputs), name="m")
    with pytest.raises(ValueError, match=rf"^adapt_input_channels: .* Received: {expected}[\w ]*\.$"):
        kc.adapt_input_channels(model, 5)
    gray = np.random.default_rng(0).normal(size=(2, 9, 8, 1)).astype("float32")
    expected = keras.ops.convert_to_numpy(model(gray.repeat(3, -1)))
    np.testing.assert_allclose(kc.adapt_input_channels(model, 1)(gray), expected, atol=1e-5)


def test_other_networks_are_refused():
    a, b = keras.Input((4, 4, 3)), keras.Input((4, 4, 3))
    with pytest.raises(
        ValueError, match=r"must have one input, of images\. Received: inputs of \(None, 4, 4, 3\), \(None"
    ):
        kc.adapt_input_channels(keras.Model([a, b], L.Conv2D(1, 1)(L.Add()([a, b]))), 1)
    with pytest.raises(ValueError, match=r"`channels` must be an integer of at least 1\. Received: channels=0"):
        kc.adapt_input_channels(network("bare"), 0)
    with pytest.raises(TypeError, match=r"`model` must be a keras\.Model\. Received: Dense"):
        kc.adapt_input_channels(L.Dense(1), 1)
    with pytest.raises(ValueError, match=r"the model must be built\. Received: 's'\. Begin it with keras\.Input"):
        kc.adapt_input_channels(keras.Sequential([L.Conv2D(1, 1)], name="s"), 1)
