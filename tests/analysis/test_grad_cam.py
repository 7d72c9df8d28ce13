"""grad_cam: closed forms by hand, one answer for every shape of model, the object in the image."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_cnn import builder, heads
from keras_cnn.analysis import grad_cam, plot_grad_cam
from keras_cnn.surgery import swap_head

pytestmark = pytest.mark.any_backend

IMAGE = np.array([[1.0, 2.0], [3.0, 4.0]])[..., None]
# The maps are x and max(3 - x, 0): [[1, 2], [3, 4]] and [[2, 1], [0, 0]]; each column holds the weights of a class.
CLASSES = np.array([[1.0, 2.0, -1.0], [2.0, -1.0, 0.0]])
EXPECTED = [[[1, 4 / 5], [3 / 5, 4 / 5]], [[0, 3 / 8], [6 / 8, 1]], [[0, 0], [0, 0]]]


def small(*end, dense=None, input_shape=(2, 2, 1)):
    """x -> two maps by a 1 x 1 convolution -> their means -> logits, and what follows."""
    layers = [
        keras.Input(input_shape),
        keras.layers.Conv2D(2, 1, activation="relu", name="maps"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, name="logits", activation=dense),
    ]
    model = keras.Sequential([*layers, *end])
    model.get_layer("maps").set_weights([np.array([1.0, -1.0]).reshape(1, 1, 1, 2), np.array([0.0, 3.0])])
    model.get_layer("logits").set_weights([CLASSES, np.full(3, 200.0)])  # a sigmoid has no slope there
    return model


@pytest.mark.parametrize(
    "model",
    [
        lambda: small(),
        lambda: small(dense="softmax"),
        lambda: small(dense="sigmoid"),
        lambda: small(keras.layers.Activation("softmax")),
        lambda: small(keras.layers.Softmax()),
        lambda: small(dense="log_softmax"),
    ],
)
def test_equals_the_class_activation_map(model):
    """Section 3.1 of the paper: after global average pooling and one dense layer, the weights are that layer's.

    By hand: Σ_k w_k A^k, negative places 0, over the maximum; of the logits, so a softmax or sigmoid changes nothing.
    """
    model = model()
    before = ops.convert_to_numpy(model(IMAGE[None]))
    for index, expected in enumerate(EXPECTED):
        np.testing.assert_allclose(grad_cam(model, IMAGE, index), expected, atol=1e-6)
    np.testing.assert_array_equal(model(IMAGE[None]), before)


def test_a_map_that_other_paths_go_around():
    """In Dense(mean(f(x) + x)) only f(x) counts for f: 2 x and 1 · x with x = 1, 2, 3, 4."""
    inputs = keras.Input((2, 2, 1))
    branch = keras.layers.Conv2D(1, 1, kernel_initializer=keras.initializers.Constant(-1.0), name="branch")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Add(name="sum")([branch, inputs]))
    model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(-2.0))(x))
    np.testing.assert_allclose(grad_cam(model, IMAGE, 0, layer="branch"), IMAGE[..., 0] / 4, atol=1e-6)
    np.testing.assert_array_equal(grad_cam(model, IMAGE, 0, layer="sum"), np.zeros((2, 2)))


def test_the_map_is_enlarged_as_keras_does_it():
    """A map of 2 x 2 for an image of 4 x 4, bilinear with the centres of the pixels half a pixel in."""
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.AveragePooling2D(2),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(1, kernel_initializer="ones"),
        ]
    )
    image = np.zeros((4, 4, 1))
    image[:2, :2] = 1
    line = np.array([1, 0.75, 0.25, 0])
    np.testing.assert_allclose(grad_cam(model, image, 0), np.outer(line, line), atol=1e-6)


@keras.saving.register_keras_serializable(package="test_grad_cam")
class Subclassed(keras.Model):
    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, inputs):
        return self.inner(inputs)

    def get_config(self):
        return {**super().get_config(), "inner": keras.saving.serialize_keras_object(self.inner)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["inner"]))


@pytest.fixture(scope="module")
def models():
    """One network as a flat model, nested once and twice, in a Sequential, and in a subclass."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((20, 24, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="first")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="second")(x)
    backbone = keras.Model(inputs, x, name="backbone")
    flat = builder.attach(backbone, heads.classification(3), name="flat")
    sequential = keras.Sequential([backbone, *flat.layers[-3:]])
    images = keras.Input((20, 24, 3))
    return {
        "flat": flat,
        "sequential": sequential,
        "nested": keras.Model(images, flat.layers[-1](flat.layers[-2](flat.layers[-3](backbone(images * 1.0))))),
        "twice": keras.Model(images, sequential(images)),
        "subclassed": Subclassed(sequential),
    }


@pytest.mark.parametrize("kind", ["sequential", "nested", "twice", "subclassed"])
@pytest.mark.parametrize("layer", [None, "first"])
def test_nested_equals_flat(models, kind, layer):
    image = np.random.default_rng(1).normal(size=(20, 24, 3))
    flat = grad_cam(models["flat"], image, 2, layer)
    assert flat.max() == 1 and np.count_nonzero(flat < 0.5) > 20  # there is something to compare
    np.testing.assert_array_equal(grad_cam(models[kind], image, 2, layer), flat)


def test_names_of_nested_layers():
    """Two networks with equal names inside: the path says which one is meant."""
    inputs = keras.Input((2, 2, 1))
    halves = [keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Conv2D(1, 1, name="conv")]) for _ in range(2)]
    for half, sign in zip(halves, (1.0, -1.0), strict=True):
        half.layers[0].set_weights([np.full((1, 1, 1, 1), sign), np.zeros(1)])
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([half(inputs) for half in halves]))
    model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones")(x))
    maps = [grad_cam(model, IMAGE, 0, layer=f"{half.name}/conv") for half in halves]
    np.testing.assert_array_equal(maps, [IMAGE[..., 0] / 4, np.zeros((2, 2))])
    with pytest.raises(ValueError, match="`layer` must be a layer that is run once"):
        grad_cam(model, IMAGE, 0, layer="conv")


@pytest.mark.parametrize("kind", ["flat", "nested", "subclassed"])
def test_reloaded_equals(models, kind, tmp_path):
    image = np.random.default_rng(1).normal(size=(20, 24, 3))
    models[kind](image[None])
    models[kind].save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(grad_cam(again, image, 2), grad_cam(models["flat"], image, 2), atol=1e-6)


@pytest.mark.parametrize("nested", [False, True])
def test_after_another_head_and_a_reload(nested, tmp_path):
    """The weights of the new head count, as in the first test; in a backbone nested in a model, and from a file."""
    old = small(keras.layers.Softmax())
    if nested:
        body = keras.Sequential(old.layers[:-2], name="body")
        old = keras.Sequential([keras.Input((2, 2, 1)), body, *old.layers[-2:]])
    model = swap_head(old, 2)
    dense = next(layer for layer in model.layers if layer.name == "logits")
    dense.set_weights([CLASSES[:, 1::-1], np.zeros(2)])  # the second and the first class
    model.save(tmp_path / "model.keras")
    for one in (model, keras.models.load_model(tmp_path / "model.keras")):
        for index, expected in enumerate(EXPECTED[1::-1]):
            np.testing.assert_allclose(grad_cam(one, IMAGE, index, "maps"), expected, atol=1e-6)


def bright_places():
    """A network whose one map is the mean of 5 x 5 pixels, less 0.5: the noise stays below, the square above."""
    weights = [np.full((5, 5, 1, 1), 1 / 25), np.array([-0.5])]
    conv = keras.layers.Conv2D(1, 5, strides=2, padding="same", activation="relu", name="bright")
    ends = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1, kernel_initializer="ones")]
    model = keras.Sequential([keras.Input((48, 64, 1)), conv, *ends])
    conv.set_weights(weights)
    return model


def test_the_highest_point_is_on_the_object():
    model = bright_places()
    noise = np.random.default_rng(0).uniform(0, 0.4, size=(48, 64, 1))
    for top, left in ((3, 5), (30, 50), (38, 1), (20, 31)):
        image = noise.copy()
        image[top : top + 9, left : left + 9] = 1
        cam = grad_cam(model, image, 0)
        row, column = np.unravel_index(cam.argmax(), cam.shape)
        assert top <= row < top + 9 and left <= column < left + 9
        inside = np.zeros_like(cam, bool)
        inside[max(top - 4, 0) : top + 13, max(left - 4, 0) : left + 13] = True
        assert not cam[~inside].any()


@pytest.mark.slow
def test_two_things_in_one_image():
    """The embedded network on a cat above and a cup below: the evidence for each class is in its half."""
    data = pytest.importorskip("skimage.data")
    from keras_cnn.backbones import efficientnet_lite

    model = efficientnet_lite.imagenet_classifier()
    photos = (data.chelsea()[:225].astype("float32"), data.coffee()[:300].astype("float32"))
    halves = [ops.image.resize(photo, (112, 224), antialias=True) for photo in photos]
    image = ops.convert_to_numpy(ops.concatenate(halves))
    egyptian_cat, espresso = 285, 967
    cat, cup = grad_cam(model, image, egyptian_cat), grad_cam(model, image, espresso)
    assert cat[:112].sum() > 3 * cat[112:].sum()
    assert cup[112:].sum() > 3 * cup[:112].sum()


def test_channels_first():
    """The model of the first test, with its axes exchanged.

    In one row, because Keras 3.15 on TensorFlow adds a bias along the width where that equals the number of filters.
    """
    keras.config.set_image_data_format("channels_first")
    try:
        result = grad_cam(small(input_shape=(1, 1, 4)), IMAGE.reshape(1, 1, 4), 1)
    finally:
        keras.config.set_image_data_format("channels_last")
    np.testing.assert_allclose(result, np.reshape(EXPECTED[1], (1, 4)), atol=1e-6)


def shared():
    """The map of a ReLU that is used twice, with fewer channels the first time."""
    relu = keras.layers.ReLU(name="relu")
    inputs = keras.Input((2, 2, 1))
    maps = small().get_layer("maps")
    x = relu(maps(relu(inputs)))
    x = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    dense = keras.layers.Dense(3)
    model = keras.Model(inputs, keras.layers.Flatten()(dense(x)))
    dense.set_weights([CLASSES, np.zeros(3)])
    return model


def test_a_layer_that_is_used_twice():
    """The last map is that of its second use; by name it is not clear which is meant."""
    np.testing.assert_allclose(grad_cam(shared(), IMAGE, 0), EXPECTED[0], atol=1e-6)
    with pytest.raises(
        ValueError, match=r"`layer` must be a layer that is run once.*The model runs 2 of that name: 'relu', 'relu'"
    ):
        grad_cam(shared(), IMAGE, 0, layer="relu")


def test_plot(tmp_path):
    plot_grad_cam(small(), IMAGE, {"a cat": 0, "a dog": 2}, tmp_path / "cam.svg")
    text = (tmp_path / "cam.svg").read_text()
    assert [text.count(f"<!-- {title} -->") for title in ("image", "a cat", "a dog")] == [1, 1, 1]
    assert text.count("<image") == 3


def test_wrong_arguments(models):
    model, image = models["flat"], np.zeros((20, 24, 3))
    for arguments, message in (
        (
            (model, image[None], 0),
            "grad_cam: `image` must be one image without the batch, of 3 axes. Received: image=(1",
        ),
        ((model, image, 3), "`class_index` must be below the number of classes (3). Received: class_index=3."),
        ((model, image, -1), "`class_index` must be an integer of at least 0. Received: class_index=-1."),
        (
            (model, image, 0, "logits"),
            "`layer` must be the name of a layer with a feature map of 4 axes. Received: lay",
        ),
        ((model, image, 0, "logits"), "The last ones are: 'first', 'norm', 'second'."),
        (
            (keras.Model(model.input, model.layers[-4].output), image, 0),
            "`model` must be one that gives (batch, classes)",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            grad_cam(*arguments)
    no_map = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    with pytest.raises(
        ValueError, match=r"`model` must be one with a feature map of 4 axes\. Received: model='sequential"
    ):
        grad_cam(no_map, IMAGE, 0)


def test_nothing_is_left_behind_after_an_error(models):
    """The layers are as before, and the next call is right."""
    model = small()
    with pytest.raises(ValueError, match="name of a layer"):
        grad_cam(model, IMAGE, 0, layer="none")
    with pytest.raises(ValueError, match="incompatible"):
        grad_cam(model, np.zeros((2, 2, 5)), 0)
    assert not any("call" in vars(layer) for layer in model.layers)
    np.testing.assert_allclose(grad_cam(model, IMAGE, 0), EXPECTED[0], atol=1e-6)
