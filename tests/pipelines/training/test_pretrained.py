"""`fit` on networks of a user's own: made fit for RGB images in float32, or refused before an image is read."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import keras_cnn as kc
from keras_cnn import keras_internals
from pipelines import InputError, cli, fine_tune
from pipelines.training.pretrained import load_network


def network(channels=3, policy="float32", first=(), size=(32, 32), **image):
    """A small classifier, trained in that its batch norms have statistics."""
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy().name
    keras.config.set_dtype_policy(policy)
    try:
        x = inputs = keras.Input((*size, channels), **image)
        for layer in first:
            x = layer(x)
        for filters in (4, 8):
            y = layers.Conv2D(filters, 3, strides=2, padding="same")(x)
            x = layers.ReLU()(layers.BatchNormalization()(y))
        x = layers.Add()([x, layers.Conv2D(8, 1)(x)])
        model = keras.Model(inputs, layers.Dense(3, "softmax")(layers.GlobalAveragePooling2D()(x)))
    finally:
        keras.config.set_dtype_policy(before)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_variance.assign(np.full(layer.moving_variance.shape, 3.0))
    return model


@pytest.fixture
def saved(tmp_path):
    def save(model, name="own"):
        path = tmp_path / f"{name}.keras"
        model.save(path)
        return path

    return save


def scaled(**options):
    return network(first=[layers.Rescaling(1 / 255)], **options)


def features_of(model):
    """What goes into the pooling of `network`."""
    pool = next(layer for layer in model.layers if isinstance(layer, layers.GlobalAveragePooling2D))
    return keras.Model(model.input, pool.input)


def ending(*end):
    """The feature maps of `scaled`, and other layers."""
    model = features_of(scaled())
    x = model.output
    for layer in end:
        x = layer(x)
    return keras.Model(model.input, x)


def images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, shape).astype("float32")


# What is made fit


def test_a_network_for_gray_images_takes_the_mean_of_the_colours(saved):
    gray = scaled(channels=1)
    found = load_network(saved(gray))
    assert found.model.input_shape == (None, 32, 32, 3)
    pixels = images(2, 32, 32, 3)
    expected = features_of(gray)(pixels.mean(-1, keepdims=True))
    np.testing.assert_allclose(found.model(pixels), expected, rtol=1e-4, atol=1e-5)
    assert [stage.stride for stage in found.stages] == [2, 4]
    assert load_network(saved(gray), size=48).model.input_shape == (None, 48, 48, 3)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_a_network_of_another_precision_is_made_in_float32(saved, policy):
    model = scaled(policy=policy)
    found = load_network(saved(model)).model
    assert {layer.dtype_policy.name for layer in keras_internals.sublayers(found)} == {"float32"}
    assert {weight.dtype for weight in found.weights} == {"float32"} and found.output.dtype == "float32"
    reference = scaled()
    reference.set_weights([keras.ops.convert_to_numpy(weight).astype("float32") for weight in model.weights])
    pixels = images(2, 32, 32, 3)
    np.testing.assert_allclose(found(pixels), features_of(reference)(pixels), rtol=1e-4, atol=1e-4)


def test_layers_within_layers_and_shared_ones_are_made_in_float32_too(saved):
    def model(policy):
        shared = layers.Conv2D(4, 3, padding="same", dtype=policy)
        image = keras.Input((16, 16, 3))
        within = keras.Input((16, 16, 4))
        inner = keras.Model(within, layers.Conv2D(4, 1, dtype=policy)(within), name="inner")
        x = layers.Conv2D(4, 1, dtype=policy)(layers.Rescaling(1 / 255, dtype=policy)(image))
        return keras.Model(image, shared(inner(shared(x)), training=False))

    mixed, reference = model("mixed_bfloat16"), model("float32")
    reference.set_weights(mixed.get_weights())
    found, pixels = load_network(saved(mixed)).model, images(1, 16, 16, 3)
    assert len(found.weights) == len(mixed.weights)
    np.testing.assert_allclose(found(pixels), reference(pixels), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_global_policy_is_that_of_no_job():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        found = load_network("keras:MobileNet", weights=None, size=64)
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.dtype_policy.name for layer in found.model.layers[1:]} == {"float32"}
    assert found.model.output.dtype == "float32"


OWN = {
    "any size": lambda: scaled(size=(None, None)),
    "bytes": lambda: scaled(dtype="uint8"),
    "resizing": lambda: network(first=[layers.Resizing(32, 32), layers.Rescaling(1 / 255)], size=(None, None)),
    "augmentation": lambda: network(first=[layers.RandomFlip(), layers.RandomRotation(0.1), layers.Rescaling(1 / 255)]),
    "normalisation": lambda: network(first=[layers.Normalization(mean=[120.0] * 3, variance=[3000.0] * 3)]),
    "an operation": lambda: network(first=[lambda x: x / 127.5 - 1.0]),
    "a map": lambda: features_of(scaled()),
    "a vector": lambda: ending(layers.GlobalMaxPooling2D()),
    "logits": lambda: ending(layers.Flatten(), layers.Dense(2)),
    "1 x 1": lambda: scaled(size=(4, 4)),
}


@pytest.mark.parametrize("case", OWN)
def test_networks_of_many_kinds_need_nothing_said(saved, case):
    model = OWN[case]()
    found = load_network(saved(model))
    assert found.model.output_shape[-1] == 8 and found.stages[-1].channels == 8
    maps = next(x.output for x in reversed(model.layers) if len(x.output.shape) == 4)
    pixels = np.round(images(2, *found.preprocessing.size, 3))
    expected = keras.Model(model.input, maps)(pixels.astype(model.input.dtype), training=False)
    np.testing.assert_allclose(found.model(pixels, training=False), expected, rtol=1e-4, atol=1e-4)


# What is refused before an image is read


def refused(sentence, tmp_path, backbone, **options):
    """There are no images at all: what is refused is refused before they are missed."""
    (tmp_path / "photos" / "a").mkdir(parents=True)
    (tmp_path / "photos" / "b").mkdir()
    for label in "ab":
        (tmp_path / "photos" / label / "1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=sentence):
        fine_tune(tmp_path / "photos", tmp_path / "out", backbone, progress=False, **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [{}, {"size": 64}])
def test_other_than_colours_and_gray_are_refused(saved, tmp_path, options):
    path = saved(scaled(channels=4))
    sentence = (
        r"must take RGB images, \(height, width, 3\)\. Received: .*own\.keras, which takes \(32, 32, 4\)\. In Python"
    )
    refused(sentence if not options else sentence.replace("32", "64"), tmp_path, str(path), **options)
    # The remedy.
    given = kc.load_backbone(path, (32, 32, 3))
    assert load_network(given) is given


def test_a_given_backbone_is_trained_in_place_and_never_exchanged(saved, tmp_path):
    gray, mixed = (kc.load_backbone(saved(model)) for model in (scaled(channels=1), scaled(policy="mixed_float16")))
    refused(r"must take RGB images, .*\(32, 32, 1\)", tmp_path / "gray", gray)
    refused(r"must compute in float32, .* has the policy 'mixed_float16'\. Give its", tmp_path / "mixed", mixed)
    refused(r"`input_range` must be None for a keras_cnn\.Backbone", tmp_path / "range", gray, input_range=(0, 1))
    refused(r"`backbone` must be a handle of load_backbone, or a Backbone\. Received: 3\.", tmp_path / "number", 3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(saved, tmp_path, value):
    model = scaled()
    model.layers[2].bias.assign(np.full(4, value))
    refused(r"weights of `backbone` must be finite\. .*conv2d\w*/bias holds NaN or infinity", tmp_path, saved(model))


def test_two_inputs_are_refused(saved, tmp_path):
    one, two = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    model = keras.Model([one, two], layers.Conv2D(4, 3)(layers.Add()([one, two])))
    refused(r"has one input, of images, and one output; this has 2 and 1", tmp_path, saved(model))


def test_channels_first_is_refused(saved, tmp_path):
    image = keras.Input((3, 32, 32))
    model = keras.Model(image, layers.Conv2D(4, 3, 2, data_format="channels_first", name="stem")(image))
    refused(r"images \(batch, height, width, channels\)\. .*'stem' is channels_first", tmp_path, saved(model))


# The range of numbers


@pytest.mark.parametrize("input_range", [(0, 1), (-1, 1), (0, 255)])
def test_a_network_without_a_scale_gets_the_range_that_is_given(saved, input_range):
    model, (black, white) = network(), input_range
    found, pixels = load_network(saved(model), input_range=input_range), images(2, 32, 32, 3)
    expected = features_of(model)(black + pixels / 255 * (white - black))
    np.testing.assert_allclose(found.model(pixels), expected, rtol=1e-4, atol=1e-3)


KERAS = ("VGG16", "ResNet50", "EfficientNetB0", "ConvNeXtTiny")
UNSCALED = {
    "nothing": lambda: network(),
    "gray": lambda: network(channels=1),
    "augmentation": lambda: network(first=[layers.RandomFlip(), layers.ZeroPadding2D(1)]),
    "normalised by what 0..1 has": lambda: network(first=[layers.Normalization(mean=[0.45] * 3, variance=[0.05] * 3)]),
    "another layer's range": lambda: network(first=[layers.Rescaling(2.0)]),
}


@pytest.mark.parametrize("case", UNSCALED)
def test_where_the_range_cannot_be_seen_one_line_says_what_is_assumed(saved, case):
    path = saved(UNSCALED[case]())
    with pytest.warns(UserWarning, match=r"own\.keras has no scaling for images of 0\.\.255 in it") as caught:
        load_network(path)
    (said,) = (str(one.message) for one in caught if one.category is UserWarning)
    assert str(path) in said and "--input-range 0,1 or --input-range -1,1" in said and "--input-range 0,255" in said
    assert "\n" not in said
    load_network(path, input_range=(0, 255))  # says nothing: warnings are errors here


@pytest.mark.parametrize(
    "handle", ["efficientnet_lite0", *(pytest.param(f"keras:{name}", marks=pytest.mark.slow) for name in KERAS)]
)
def test_handles_know_their_range(handle):
    load_network(handle, None, 64)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((0, 0), r"`input_range` must be two different finite numbers, for black and for white, such as \(0, 1\)"),
        ((0, float("nan")), "must be two different finite numbers"),
        ((0, 1, 2), "must be two different finite numbers"),
        ("0,1", "must be two different finite numbers"),
        (1, "must be two different finite numbers"),
    ],
)
def test_ranges_are_checked(saved, tmp_path, given, sentence):
    refused(sentence, tmp_path, saved(network()), input_range=given)


def test_a_handle_that_knows_its_range_takes_no_other(tmp_path):
    refused(
        r"'efficientnet_lite0' takes no other arguments\. Received: input_range",
        tmp_path,
        "efficientnet_lite0",
        input_range=(0, 1),
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--input-range", "0,1"], (0, 1)),
        (["--input-range", "-1,1"], (-1, 1)),
        (["--input-range=-1,1"], (-1, 1)),
        (["--input-range", "0, 255"], (0, 255)),
        ([], None),
    ],
)
def test_the_range_on_the_command_line(words, expected):
    assert cli._parsed(["fit", "photos", "--out", "out", *words]).input_range == expected


@pytest.mark.parametrize("words", [["--input-range", "1"], ["--input-range"], ["--input-range", "a,b"]])
def test_a_range_that_is_none_is_refused_by_the_command_line(words, capsys):
    with pytest.raises(SystemExit):
        cli.main(["fit", "photos", "--out", "out", *words])
    assert "--input-range" in capsys.readouterr().err


@pytest.mark.slow
def test_the_program_warns_in_one_line(saved, tmp_path):
    for label in "ab":
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "1.png").write_bytes(b"no image")
    words = [tmp_path / "photos", "--out", tmp_path / "out", "--backbone", saved(network()), "--quiet"]
    ran = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "fit", *words], capture_output=True, text=True, check=False
    )
    warning, error = ran.stderr.splitlines()
    assert ran.returncode == 2 and error.startswith("keras-cnn fit: Each class needs at least 2 readable images")
    assert warning.startswith("keras-cnn: warning: ") and "has no scaling for images of 0..255 in it" in warning


# Whole jobs


JOBS = {"gray": {"channels": 1}, "mixed_float16": {"policy": "mixed_float16"}, "float16": {"policy": "float16"}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "train"), [("gray", "head"), ("mixed_float16", "head"), ("float16", "head"), ("mixed_float16", "all")]
)
def test_a_job_on_them_ends_with_a_proved_version(saved, sample_photos, tmp_path, case, train):
    path = saved(network(**JOBS[case]))
    words = ["--backbone", str(path), "--input-range", "-1,1", "--train", train, "--epochs", str(int(train == "all"))]
    out = tmp_path / "out"
    assert cli.main(["fit", str(sample_photos), "--out", str(out), "--quiet", *words]) == 0
    metrics = json.loads((out / "runs" / "1" / "metrics.json").read_text())
    assert metrics["verification"]["largest_difference"] <= 1e-4
    trained = keras.models.load_model(out / "runs" / "1" / "model.keras")
    assert {weight.dtype for weight in trained.weights} == {"float32"} and trained.input_shape == (None, 32, 32, 3)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["any size", "bytes", "resizing", "augmentation", "1 x 1"])
def test_a_job_on_networks_of_many_kinds(saved, sample_photos, tmp_path, case):
    result = fine_tune(sample_photos, tmp_path / "out", saved(OWN[case]()), epochs=0, progress=False)
    assert result.metrics["verification"]["largest_difference"] <= 1e-4


@pytest.mark.slow
def test_a_job_under_a_global_policy(sample_photos, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        result = fine_tune(sample_photos, tmp_path / "out", size=64, epochs=1, train="last", progress=False)
    finally:
        keras.config.set_dtype_policy("float32")
    assert result.metrics["verification"]["largest_difference"] <= 1e-4


@pytest.mark.slow
def test_a_job_on_a_base_that_is_called_as_in_the_guide(saved, sample_photos, tmp_path):
    image = keras.Input((32, 32, 3))
    base = features_of(scaled())
    x = layers.GlobalAveragePooling2D()(base(image, training=False))
    path = saved(keras.Model(image, layers.Dense(3)(x)))
    result = fine_tune(sample_photos, tmp_path / "out", path, epochs=1, train="all", progress=False)
    assert result.metrics["verification"]["largest_difference"] <= 1e-4


# A job that a callback breaks off


class Broken(keras.callbacks.Callback):
    """As a logger without a connection: raises in the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 1:
            raise RuntimeError("the logger is gone")


class Epochs(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append(epoch)


@pytest.mark.slow
def test_a_job_resumes_after_an_error_in_a_callback(saved, sample_photos, tmp_path):
    path = saved(scaled())
    job = {"backbone": path, "train": "last", "epochs": 3, "progress": False}
    with pytest.raises(RuntimeError, match="the logger is gone"):
        fine_tune(sample_photos, tmp_path / "out", callbacks=[Broken()], **job)
    assert list((tmp_path / "out" / ".unfinished" / "checkpoints").iterdir())
    epochs = Epochs()
    resumed = fine_tune(sample_photos, tmp_path / "out", callbacks=[epochs], **job)
    assert epochs.seen == [1, 2]
    whole = fine_tune(sample_photos, tmp_path / "whole", **job)
    weights = [keras.models.load_model(one.run / "model.keras").get_weights() for one in (resumed, whole)]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
