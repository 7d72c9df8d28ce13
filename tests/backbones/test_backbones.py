"""`load_backbone`: networks of every origin as one record, with their normalisation inside."""

import json
import shutil
import sys
import urllib.error
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor

import h5py
import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_cnn as kc
from keras_cnn import downloads, heads, surgery
from keras_cnn.backbones import applications
from keras_cnn.builder import attach

pytestmark = pytest.mark.any_backend

# Per network: the arguments that make a small one, and its module of keras.applications.
SMALL = {
    "MobileNet": ({"alpha": 0.25}, "mobilenet", (64, 96)),
    "VGG16": ({}, "vgg16", (32, 48)),
}
FAMILIES = {
    "ConvNeXtTiny": ({}, "convnext", (64, 96)),
    "DenseNet121": ({}, "densenet", (64, 96)),
    "EfficientNetB0": ({}, "efficientnet", (64, 96)),
    "EfficientNetV2B0": ({}, "efficientnet_v2", (64, 96)),
    "InceptionResNetV2": ({}, "inception_resnet_v2", (96, 128)),
    "InceptionV3": ({}, "inception_v3", (96, 128)),
    "MobileNetV2": ({}, "mobilenet_v2", (64, 96)),
    "MobileNetV3Small": ({}, "mobilenet_v3", (64, 96)),
    "NASNetMobile": ({}, "nasnet", (64, 96)),
    "ResNet50": ({}, "resnet", (64, 96)),
    "ResNet50V2": ({}, "resnet_v2", (64, 96)),
    "VGG19": ({}, "vgg19", (32, 48)),
    "Xception": ({}, "xception", (96, 128)),
}


def images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, shape).astype("float32")


@pytest.fixture
def own(tmp_path):
    """A file with a classifier whose backbone is nested in it, and the backbone."""
    image = keras.Input((64, 48, 3))
    x = layers.Conv2D(8, 3, 2, padding="same", name="conv1")(layers.Rescaling(1 / 255)(image))
    x = layers.Conv2D(12, 3, 2, padding="same", name="conv2")(layers.ReLU(name="act1")(x))
    inner = keras.Model(image, layers.BatchNormalization(name="norm")(x), name="inner")
    outside = keras.Input((64, 48, 3))
    y = layers.Dense(3)(layers.GlobalAveragePooling2D()(inner(outside)))
    path = tmp_path / "own.keras"
    keras.Model(outside, y).save(path)
    return path, inner


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory):
    """Keras' own smallest MobileNet, and its weights in a file of the format that Keras publishes."""
    network = keras.applications.MobileNet(weights=None, include_top=False, alpha=0.25, input_shape=(64, 64, 3))
    for number, weight in enumerate(network.weights):
        weight.assign(keras.random.uniform(weight.shape, 0.1, 0.2, seed=number))
    path = tmp_path_factory.mktemp("weights") / "mobilenet.h5"
    with h5py.File(path, "w") as file:
        filled = [layer for layer in network.layers if layer.weights]
        file.attrs["layer_names"] = [layer.name.encode() for layer in filled]
        file.attrs["keras_version"], file.attrs["backend"] = b"2.2.4", b"tensorflow"
        for layer in filled:
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [weight.name.encode() for weight in layer.weights]
            for weight in layer.weights:
                group[weight.name] = ops.convert_to_numpy(weight)
    return network, path


# keras.applications


@pytest.mark.parametrize("module", sorted({module for _, module, _ in (SMALL | FAMILIES).values()}))
def test_normalisation_is_what_preprocess_input_does(module):
    preprocess = getattr(keras.applications, module).preprocess_input
    pixels = images(4, 8, 8, 3)
    ours = ops.convert_to_numpy(applications.normalization(preprocess)(ops.convert_to_tensor(pixels)))
    np.testing.assert_allclose(ours, preprocess(pixels.copy()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(family, marks=pytest.mark.slow) for family in FAMILIES)])
def test_a_network_computes_what_that_of_keras_computes(name):
    options, module, size = (SMALL | FAMILIES)[name]
    shape = (*size, 3)
    backbone = kc.load_backbone(f"keras:{name.lower()}", shape, weights=None, **options)
    theirs = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=shape, **options)
    theirs.set_weights(backbone.model.get_weights())
    pixels = images(2, *shape)
    expected = ops.convert_to_numpy(theirs(getattr(keras.applications, module).preprocess_input(pixels.copy())))
    np.testing.assert_allclose(backbone.model(pixels), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert backbone.preprocessing == kc.Preprocessing(size)
    assert str(backbone.source) == f"keras:{name}, random weights"


def test_weights_come_from_a_local_file(mobilenet):
    network, path = mobilenet
    backbone = kc.load_backbone("keras:MobileNet", (64, 64, 3), weights=path, alpha=0.25)
    for ours, theirs in zip(backbone.model.weights, network.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert backbone.source.sha256 == downloads.file_checksum(path)
    assert str(path) in str(backbone.source)


def test_default_weights_are_downloaded_from_the_address_of_keras(mobilenet, monkeypatch, tmp_path):
    network, path = mobilenet
    asked = []

    def download(address, checksum):
        asked.append((address, checksum))
        return path

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(applications, "download", download)
    backbone = kc.load_backbone("keras:MobileNet", (64, 64, 3), alpha=0.25)
    assert [address.rpartition("/")[2] for address, _ in asked] == ["mobilenet_2_5_224_tf_no_top.h5"]
    np.testing.assert_array_equal(backbone.model.weights[0], network.weights[0])
    assert backbone.source.weights == "ImageNet weights of keras.applications"
    # A file that Keras has downloaded before is used.
    (tmp_path / "models").mkdir()
    shutil.copy(path, tmp_path / "models" / "mobilenet_2_5_224_tf_no_top.h5")
    kc.load_backbone("keras:MobileNet", (64, 64, 3), alpha=0.25)
    assert len(asked) == 1
    assert sys.modules[keras.utils.get_file.__module__].get_file is keras.utils.get_file  # as it was


def test_other_threads_do_not_see_the_patched_function():
    module = sys.modules[keras.utils.get_file.__module__]
    with ThreadPoolExecutor(1) as pool, applications._patched(keras.utils.get_file, "get_file", lambda fname: "ours"):
        assert module.get_file("x") == "ours"
        with pytest.raises(ValueError, match="Please specify the"):
            pool.submit(module.get_file, "x").result()


def test_without_a_connection_there_is_one_sentence(monkeypatch, tmp_path):
    def urlopen(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_CNN_CACHE", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(FileNotFoundError) as caught:
        kc.load_backbone("keras:MobileNet", (64, 64, 3), alpha=0.25)
    message = str(caught.value)
    assert message.startswith("load_backbone: no weights for keras:MobileNet. https://storage.googleapis.com/")
    assert "could not be downloaded: <urlopen error Name or service not known>. Check the address and the" in message
    assert message.endswith("Or pass weights=None for random weights.")
    assert caught.value.__suppress_context__
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_files_that_are_not_the_weights_are_reported(mobilenet, tmp_path):
    path = mobilenet[1]
    broken = tmp_path / "broken.h5"
    broken.write_bytes(path.read_bytes()[:5000])
    for file, options in ((broken, {"alpha": 0.25}), (path, {"alpha": 0.5})):
        with pytest.raises(
            ValueError, match=rf"{file.name} must hold the weights of keras:MobileNet without its class"
        ):
            kc.load_backbone("keras:MobileNet", (64, 64, 3), weights=file, **options)
    with pytest.raises(FileNotFoundError, match=r"`weights` must be \"default\", an existing weight file, or None"):
        kc.load_backbone("keras:MobileNet", (64, 64, 3), weights=tmp_path / "none.h5")


@pytest.mark.slow
def test_a_local_file_makes_the_network_that_was_trained(tmp_path):
    # EfficientNetB0 with weights="imagenet" has one layer more than with weights=path, where Keras loads the same file.
    path = tmp_path / "efficientnetb0.weights.h5"
    network = keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=(64, 64, 3))
    network.save_weights(path)
    ours = kc.load_backbone("keras:EfficientNetB0", (64, 64, 3), weights=path).model
    kinds = [type(layer).__name__ for layer in ours.layers]
    assert kinds[:5] == ["InputLayer", "Rescaling", "Normalization", "Rescaling", "ZeroPadding2D"]


def test_a_network_takes_any_size_and_starts_at_the_one_it_was_trained_on():
    backbone = kc.load_backbone("keras:MobileNet", (None, None, 3), weights=None, alpha=0.25)
    assert backbone.preprocessing.size == (224, 224)
    assert backbone.model(images(1, 96, 64, 3)).shape == (1, 3, 2, 256)
    assert kc.load_backbone("keras:MobileNet", weights=None, alpha=0.25).model.input_shape == (None, 224, 224, 3)


@pytest.mark.parametrize("name", [name for name in applications.names() if not name.startswith("MobileNetV3")])
def test_sizes_are_those_that_keras_demands_for_its_weights(name):
    make = getattr(keras.applications, name)
    height, width = applications._default_size(make)
    with pytest.raises(ValueError, match=rf"`input_shape` should be \({height}, {width}, 3\)"):
        make(weights="imagenet", input_shape=(32, 33, 3))


def test_networks_without_a_default_size_start_at_that_of_imagenet():
    assert applications._default_size(keras.applications.MobileNetV3Small) == (224, 224)


# Networks in .keras files


def test_a_saved_network_is_used_up_to_its_last_feature_map(own):
    path, inner = own
    backbone = kc.load_backbone(str(path))
    assert [(s.name, s.stride, s.channels) for s in backbone.stages] == [("stage1", 2, 8), ("stage2", 4, 12)]
    assert {name: x.shape for name, x in backbone.features().items()} == {
        "stage1": (None, 32, 24, 8),
        "stage2": (None, 16, 12, 12),
    }
    pixels = images(2, 64, 48, 3)
    np.testing.assert_allclose(backbone.model(pixels), inner(pixels), rtol=1e-5, atol=1e-6)
    assert backbone.preprocessing == kc.Preprocessing((64, 48))
    assert backbone.source.sha256 == downloads.file_checksum(path)


def test_a_saved_network_takes_other_sizes_ranges_and_preprocessing(own):
    path, inner = own
    cover = kc.Preprocessing((32, 32), "cover")
    backbone = kc.load_backbone(path, (32, 32, 3), input_range=(-1, 1), preprocessing=cover)
    pixels = images(2, 32, 32, 3)
    expected = surgery.output_of(inner, "norm")
    assert backbone.preprocessing is cover
    assert expected.shape == (None, 16, 12, 12)
    rescaled = keras.Sequential([keras.Input((32, 32, 3)), *inner.layers[1:]])
    np.testing.assert_allclose(backbone.model(pixels), rescaled(pixels / 127.5 - 1), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"`preprocessing` must be of the network's size, 64 x 48\."):
        kc.load_backbone(path, preprocessing=cover)
    with pytest.raises(TypeError, match=r"`preprocessing` must be a keras_cnn\.Preprocessing"):
        kc.load_backbone(path, preprocessing=(64, 48))


def test_a_saved_network_may_get_other_weights(own, tmp_path):
    path, inner = own
    kernel = ops.convert_to_numpy(inner.get_layer("conv1").kernel)
    random = kc.load_backbone(path, weights=None)
    assert not np.allclose(random.model.get_layer("conv1").kernel, kernel)
    whole = keras.models.load_model(path)
    whole.get_layer("inner").get_layer("conv1").kernel.assign(kernel + 1)
    whole.save_weights(tmp_path / "other.weights.h5")
    other = kc.load_backbone(path, weights=tmp_path / "other.weights.h5")
    np.testing.assert_allclose(other.model.get_layer("conv1").kernel, kernel + 1, rtol=1e-6)


def test_a_trained_model_of_a_backbone_is_a_backbone_again(own, tmp_path):
    first = kc.load_backbone(own[0])
    attach(first.model, heads.classification(5)).save(tmp_path / "trained.keras")
    again = kc.load_backbone(tmp_path / "trained.keras")
    assert again.stages == first.stages
    pixels = images(1, 64, 48, 3)
    np.testing.assert_allclose(again.model(pixels), first.model(pixels), rtol=1e-6)


def small(*first):
    image = x = keras.Input((32, 32, 3))
    for layer in first:
        x = layer(x)
    return keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, 2)(x))))


def test_a_file_with_code_in_it_is_refused_with_a_remedy_that_works(tmp_path):
    path = tmp_path / "own.keras"
    for model in (small(layers.Lambda(lambda x: x / 255)), small(keras.Sequential([layers.Lambda(lambda x: x + 1)]))):
        model.save(path)
        with pytest.raises(ValueError) as caught:
            kc.load_backbone(path)
        assert str(caught.value) == (
            f"load_backbone: {path} must contain only layers. Received: a file with code in it, such as a Lambda layer, which "
            "runs when it is loaded. Replace it by a layer of Keras, such as Rescaling, and save the model again; or, if you "
            "trust the file, load it in Python with safe_mode=False."
        )
        assert kc.load_backbone(path, safe_mode=False).stages[-1].channels == 4


@pytest.mark.parametrize(
    ("damage", "received"),
    [
        (lambda content: content[: len(content) // 2], "a file whose end is missing; copy or download it again"),
        (lambda content: content[:100], "a file whose end is missing"),
        (lambda content: b"", "an empty file"),
        (lambda content: b"no model", "a file of another format"),
        (
            lambda content: b"\x89HDF\r\n\x1a\n" + bytes(100),
            r"an HDF5 file; load it under a name that ends in \.h5, and save",
        ),
    ],
)
def test_incomplete_files_are_not_reported_as_missing(tmp_path, damage, received):
    path = tmp_path / "own.keras"
    small().save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        ValueError, match=f"own\\.keras must be a model that Keras has saved .*Received: {received}"
    ) as caught:
        kc.load_backbone(path)
    assert "not found" not in str(caught.value).lower()


def test_archives_without_a_network_are_reported_with_what_is_missing(tmp_path):
    path, part = tmp_path / "own.keras", tmp_path / "part.keras"
    small().save(path)
    for missing in ("config.json", "model.weights.h5"):
        with zipfile.ZipFile(path) as whole, zipfile.ZipFile(part, "w") as rest:
            for name in whole.namelist():
                if name != missing:
                    rest.writestr(name, whole.read(name))
        with pytest.raises(ValueError, match=rf"part\.keras with weights='default' fails: .*{missing}"):
            kc.load_backbone(part)


class Unregistered(layers.Layer):
    def call(self, x):
        return x / 255


def test_an_unknown_class_is_reported(tmp_path, monkeypatch):
    path = tmp_path / "own.keras"
    small(Unregistered()).save(path)
    monkeypatch.delattr(sys.modules[__name__], "Unregistered")
    with pytest.raises(
        ValueError, match=r"own\.keras with weights='default' fails: Could not locate class 'Unregistered'\."
    ):
        kc.load_backbone(path)


def test_missing_files_are_reported(tmp_path):
    (tmp_path / "folder.keras").mkdir()
    small().save(tmp_path / "own.keras")
    with pytest.raises(FileNotFoundError, match=r'`weights` must be "default", an existing weight file, or None'):
        kc.load_backbone(tmp_path / "own.keras", weights="none.h5")
    for name in ("none.keras", "folder.keras"):
        with pytest.raises(FileNotFoundError, match=r"`handle` must be an existing \.keras file"):
            kc.load_backbone(tmp_path / name)


def test_a_network_of_channels_first_is_refused(tmp_path):
    image = keras.Input((3, 32, 32))
    conv = layers.Conv2D(4, 3, 2, data_format="channels_first", name="stem")
    keras.Model(image, conv(image)).save(tmp_path / "own.keras")
    with pytest.raises(ValueError, match=r"images \(batch, height, width, channels\)\. .*'stem' is channels_first"):
        kc.load_backbone(tmp_path / "own.keras")


# All origins


def test_stages_freeze_alike_and_layers_belong_to_the_model():
    backbone = kc.load_backbone("keras:MobileNet", (64, 64, 3), weights=None, alpha=0.25)
    model = attach(backbone.model, heads.classification(3))
    kc.freeze(model, up_to="stage4")
    frozen = [layer.name for layer in model.layers if not layer.trainable]
    assert "stage4" in frozen
    assert "conv_pw_11" in frozen  # the last of stride 16
    assert "conv_dw_12" not in frozen
    assert backbone.model.get_layer("conv_pw_5").output is surgery.output_of(backbone.model, "conv_pw_5")
    assert [x.shape[1] for x in backbone.features().values()] == [32, 16, 8, 4, 2]


@pytest.mark.parametrize(("channels", "seen"), [(1, [0, 0, 0]), (6, [0, 1, 2])])
def test_another_number_of_channels_keeps_the_output_for_repeated_ones(own, channels, seen):
    rgb, other = kc.load_backbone(own[0]), kc.load_backbone(own[0], (64, 48, channels))
    pixels = images(2, 64, 48, 1 if channels == 1 else 3)
    expected = rgb.model(pixels[..., seen])
    np.testing.assert_allclose(
        other.model(np.tile(pixels, channels // pixels.shape[-1])), expected, rtol=1e-4, atol=1e-5
    )
    assert other.stages == rgb.stages
    assert other.model.get_layer("norm").output is surgery.output_of(other.model, "norm")
    assert list(other.features()) == ["stage1", "stage2"]


def test_channels_of_none_are_those_of_the_network(tmp_path):
    image = keras.Input((32, 32, 4))
    keras.Model(image, layers.Conv2D(4, 3, 2)(image)).save(tmp_path / "own.keras")
    assert kc.load_backbone(tmp_path / "own.keras", (64, None, None)).model.input_shape == (None, 64, None, 4)
    assert kc.load_backbone("efficientnet_lite0", (64, 64, None)).model.input_shape == (None, 64, 64, 3)


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 0), (0, 64, 3), (64.0, 64, 3), 64, (True, 64, 3)])
def test_input_shapes_are_checked(shape):
    with pytest.raises(ValueError, match=r"`input_shape` must be \(height, width, channels\) of one image"):
        kc.load_backbone("efficientnet_lite0", shape)


@pytest.mark.parametrize(
    ("handle", "message"),
    [
        ("keras:resnet_50", r'after "keras:"\. Received: handle=\'keras:resnet_50\'\. Did you mean ResNet50 or '),
        ("keras:nothing", r"There are ConvNeXtBase, .*Xception\."),
        ("ResNet50", r"Did you mean 'keras:ResNet50'\?"),
        ("efficientnet_lite9", r"'efficientnet_lite0' to '\.\.4', .*Did you mean 'efficientnet_lite0'\?"),
        ("EfficientNet-Lite3", r"Did you mean 'efficientnet_lite3'\?"),
        ("zebra", r"'keras_hub:PRESET', 'hub:MODULE' or 'PATH\.keras'\. Received: handle='zebra'\.$"),
        ("hub:nowhere", r"must be an existing folder or \.tar\.gz file"),
    ],
)
def test_errors_about_unknown_handles_list_the_known_ones(handle, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        kc.load_backbone(handle)


@pytest.mark.parametrize(
    ("handle", "message"),
    [
        ("efficientnet_lite0", "'efficientnet_lite0' takes no other arguments. Received: include_top."),
        (
            "keras:VGG16",
            "keras:VGG16 takes no options. Received: include_top. The network is always loaded without its",
        ),
        ("keras:MobileNet", "takes the options alpha, depth_multiplier, dropout. Received: include_top."),
        ("my.keras", "'my.keras' takes input_range, safe_mode. Received: include_top."),
    ],
)
def test_options_are_checked(handle, message):
    with pytest.raises(TypeError) as caught:
        kc.load_backbone(handle, weights=None, include_top=True)
    assert message in str(caught.value)


@pytest.mark.parametrize("handle", ["efficientnet_lite0", "keras:VGG16"])
def test_weights_are_a_word_a_path_or_nothing(handle):
    with pytest.raises(
        TypeError, match=r"`weights` must be .*, an existing weight file, or None\. Received: weights=3"
    ):
        kc.load_backbone(handle, weights=3)


def test_sizes_that_a_network_cannot_take_are_one_sentence():
    with pytest.raises(ValueError, match=r"cannot make keras:ResNet50 with .*: Input size must be at least 32x32; Rec"):
        kc.load_backbone("keras:ResNet50", (16, 16, 3), weights=None)


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match=r"Received: image_data_format 'channels_first'"):
            kc.load_backbone("efficientnet_lite0")
    finally:
        keras.config.set_image_data_format("channels_last")


# All networks of keras.applications


@pytest.mark.slow
@pytest.mark.parametrize("name", applications.names())
def test_each_network_of_keras_has_its_stages_and_takes_a_head(name):
    keras.backend.clear_session(free_memory=True)
    backbone = kc.load_backbone(f"keras:{name}", weights=None)
    first = 2 if name.startswith("ConvNeXt") else 1  # which begins with patches of 4 x 4
    assert [(s.name, s.stride) for s in backbone.stages] == [(f"stage{n}", 2**n) for n in range(first, 6)]
    side = backbone.preprocessing.size[0]
    for stage, feature in zip(backbone.stages, backbone.features().values(), strict=True):
        assert feature.shape[-1] == stage.channels
        assert abs(feature.shape[1] - side / stage.stride) <= 4  # unpadded convolutions lose a few
    model = surgery.swap_head(attach(backbone.model, heads.classification(10)), 7)
    assert model.output_shape == (None, 7)
    assert model.get_layer("stage5") is backbone.model.get_layer("stage5")


@pytest.mark.slow
def test_a_job_fits_the_head_of_a_network_that_cannot_be_split(sample_photos, tmp_path):
    from pipelines import fine_tune

    result = fine_tune(sample_photos, tmp_path / "out", "keras:NASNetMobile", weights=None, progress=False)
    chosen = json.loads((result.run / "settings.json").read_text())
    assert (chosen["train"], chosen["feature_layer"], chosen["epochs"]) == ("head", "pool", 0)
    assert list(result.metrics["validation"]) == ["linear_probe"]


@pytest.mark.slow
def test_a_job_runs_on_any_of_them(sample_photos, tmp_path):
    from pipelines import fine_tune

    result = fine_tune(sample_photos, tmp_path / "out", "keras:mobilenet", weights=None, epochs=1, progress=False)
    assert json.loads((result.run / "settings.json").read_text())["weights"] == "keras:MobileNet, random weights"
    again = kc.load_backbone(result.run / "model.keras")
    assert [(s.stride, s.channels) for s in again.stages] == [(2, 64), (4, 128), (8, 256), (16, 512), (32, 1024)]
