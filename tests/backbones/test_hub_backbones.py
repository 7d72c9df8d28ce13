"""Backbones from SavedModels in the format of TF Hub, and from presets of keras-hub where that is installed."""

import json
import random
import sys
import tarfile
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_cnn as kc
from keras_cnn import heads
from keras_cnn.backbones import presets
from keras_cnn.builder import attach
from keras_cnn.downloads import file_checksum


class Features(tf.Module):
    """A reusable SavedModel: images 0..1 -> maps with stride 4, or vectors, or a dict of both."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.kernel = tf.Variable(tf.random.stateless_normal((3, 3, 3, 8), (1, 2)), name="kernel")

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((), tf.bool)])
    def __call__(self, images, training=False):
        maps = tf.nn.conv2d(images, self.kernel, 4, "SAME")
        outputs = {"maps": maps, "vectors": tf.reduce_mean(maps, (1, 2))}
        return outputs.get(self.kind, outputs)


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modules")
    for kind in ("maps", "vectors", "both"):
        tf.saved_model.save(Features(kind), str(folder / kind))
    return folder


@pytest.fixture
def pixels():
    return np.random.default_rng(0).uniform(0, 255, (2, 64, 48, 3)).astype("float32")


@pytest.mark.parametrize(
    ("kind", "shape", "stage"),
    [("maps", (2, 16, 12, 8), ("stage2", 4, 8)), ("vectors", (2, 1, 1, 8), ("stage1", None, 8))],
)
def test_a_saved_model_is_a_backbone_of_one_stage(modules, pixels, kind, shape, stage):
    backbone = kc.load_backbone(f"hub:{modules / kind}", (64, 48, 3))
    expected = tf.saved_model.load(str(modules / kind))(pixels / 255, False)
    np.testing.assert_allclose(backbone.model(pixels), tf.reshape(expected, shape), rtol=1e-4, atol=1e-5)
    assert [(one.name, one.stride, one.channels) for one in backbone.stages] == [stage]
    assert backbone.features()[stage[0]].shape == (None, *shape[1:])
    values = modules / kind / "variables" / "variables.data-00000-of-00001"
    assert backbone.source.sha256 == file_checksum(values)
    assert str(backbone.source).startswith(f"hub:{modules / kind}, ")


def test_the_stride_of_a_module_that_does_not_pad(tmp_path):
    # InceptionV3 makes 8 x 8 positions of 299 x 299 pixels (Szegedy et al., 2015, arXiv:1512.00567, table 1): stride 32.
    module = tf.Module()
    module.__call__ = tf.function(
        lambda images: tf.nn.avg_pool2d(images[:, 22:-22, 22:-22], 32, 32, "SAME"),
        input_signature=[tf.TensorSpec((None, 299, 299, 3))],
    )
    tf.saved_model.save(module, str(tmp_path / "module"))
    backbone = kc.load_backbone(f"hub:{tmp_path / 'module'}", (299, 299, 3))
    assert backbone.model.output_shape == (None, 8, 8, 3)
    assert [(stage.name, stage.stride) for stage in backbone.stages] == [("stage5", 32)]


def test_the_range_of_values_and_the_output_are_options(modules, pixels):
    backbone = kc.load_backbone(f"hub:{modules / 'both'}", (64, 48, 3), input_range=(-1, 1), output_key="maps")
    expected = tf.saved_model.load(str(modules / "maps"))(pixels / 127.5 - 1, False)
    np.testing.assert_allclose(backbone.model(pixels), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(
        ValueError, match=r"must give one tensor, feature maps or feature vectors\. Received: .*output_key"
    ):
        kc.load_backbone(f"hub:{modules / 'both'}", (64, 48, 3))
    with pytest.raises(
        ValueError, match=r"`input_range` must be two different finite numbers, for black and for white"
    ):
        kc.load_backbone(f"hub:{modules / 'maps'}", input_range="0..1")


def test_an_archive_trains(modules, pixels, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_CNN_CACHE", str(tmp_path / "cache"))
    with tarfile.open(tmp_path / "maps.tar.gz", "w:gz") as archive:
        archive.add(modules / "maps", ".")
    backbone = kc.load_backbone(f"hub:{tmp_path / 'maps.tar.gz'}", (64, 48, 3))
    model = attach(backbone.model, heads.classification(3))
    before = [np.array(weight) for weight in model.get_layer("module").trainable_weights]
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(pixels, np.array([0, 1]), verbose=0)
    assert len(before) == 1
    assert not np.allclose(model.get_layer("module").trainable_weights[0], before[0])
    assert not kc.load_backbone(f"hub:{modules / 'maps'}", trainable=False).model.trainable_weights


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["maps", "vectors"])
def test_a_job_fits_the_head_of_a_saved_model(modules, kind, sample_photos, tmp_path):
    from pipelines import fine_tune

    result = fine_tune(sample_photos, tmp_path / "out", f"hub:{modules / kind}", progress=False)
    chosen = json.loads((result.run / "settings.json").read_text())
    assert (chosen["train"], chosen["feature_layer"], chosen["epochs"]) == ("head", "pool", 0)
    trained = keras.models.load_model(result.run / "model.keras", safe_mode=False)
    np.testing.assert_array_equal(trained.get_layer("module").weights[0], Features(kind).kernel)
    assert result.metrics["verification"]["largest_difference"] <= 1e-4


def test_gray_images_go_into_a_saved_model_as_rgb(modules, pixels):
    gray, rgb = (kc.load_backbone(f"hub:{modules / 'maps'}", (64, 48, channels)).model for channels in (1, 3))
    np.testing.assert_allclose(gray(pixels[..., :1]), rgb(pixels[..., [0, 0, 0]]), rtol=1e-5, atol=1e-6)


def test_a_saved_model_has_no_other_weights(modules):
    with pytest.raises(ValueError, match=r'`weights` must be "default", since a SavedModel comes with its own'):
        kc.load_backbone(f"hub:{modules / 'maps'}", weights=None)


def test_without_keras_hub_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ValueError, match=r"Received: 'keras_hub:resnet_50'\. pip install 'keras-cnn\[hub\]'\."):
        kc.load_backbone("keras_hub:resnet_50")


# With keras-hub


@pytest.fixture(scope="module")
def keras_hub():
    return pytest.importorskip("keras_hub", reason="keras-hub is not installed: pip install keras-hub")


@pytest.fixture(scope="module")
def preset(keras_hub, tmp_path_factory):
    """A folder with a small classifier of keras-hub, its backbone and its converter of images."""
    models = keras_hub.models
    backbone = models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 32, 32, 16],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(None, None, 3),
    )
    converter = models.ResNetImageClassifierPreprocessor.image_converter_cls(
        image_size=(96, 80), scale=[0.017, 0.018, 0.0175], offset=[-2.1, -2.0, -1.8], crop_to_aspect_ratio=True
    )
    preprocessor = models.ResNetImageClassifierPreprocessor(converter)
    folder = tmp_path_factory.mktemp("presets")
    with warnings.catch_warnings():
        # Of keras-hub 0.29 with Keras 3.15.
        warnings.filterwarnings("ignore", r"`build\(\)` was called on layer 'res_net_image_classifier'")
        models.ResNetImageClassifier(backbone, 3, preprocessor).save_to_preset(str(folder / "whole"))
    backbone.save_to_preset(str(folder / "bare"))
    return folder, backbone, converter


def test_a_preset_brings_its_preprocessing(preset):
    folder, original, converter = preset
    backbone = kc.load_backbone(f"keras_hub:{folder / 'whole'}")
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 96, 80, 3)).astype("float32")
    np.testing.assert_allclose(backbone.model(pixels), original(converter(pixels)), rtol=1e-4, atol=1e-5)
    assert backbone.preprocessing == kc.Preprocessing((96, 80), "cover")
    assert backbone.source.sha256 == file_checksum(folder / "whole" / "model.weights.h5")


def test_stages_are_the_pyramid_that_keras_hub_names(preset):
    folder, original, _ = preset
    features = kc.load_backbone(f"keras_hub:{folder / 'whole'}", (64, 64, 3)).model
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    levels = {name: keras.Model(original.input, x) for name, x in original.pyramid_outputs.items()}
    assert list(levels) == ["P2", "P3", "P4", "P5"]
    normalised = features.get_layer("normalize")(pixels)
    for name, level in levels.items():
        ours = keras.Model(features.input, features.get_layer(f"stage{name[1]}").output)
        np.testing.assert_allclose(ours(pixels), level(normalised), rtol=1e-4, atol=1e-5)


def test_a_preset_without_a_preprocessor_needs_an_input_range(preset):
    folder = preset[0]
    with pytest.raises(ValueError, match=r"does not say what range of values its images have\. Give it by input_range"):
        kc.load_backbone(f"keras_hub:{folder / 'bare'}")
    backbone = kc.load_backbone(f"keras_hub:{folder / 'bare'}", input_range=(0, 1))
    assert backbone.preprocessing == kc.Preprocessing(224)
    assert backbone.model.get_layer("normalize").scale == pytest.approx(1 / 255)


def test_a_preset_takes_a_weight_file_or_none(preset):
    folder, original, _ = preset
    handle = f"keras_hub:{folder / 'whole'}"
    kernel = np.array(original.get_layer("conv1_conv").kernel)
    random.seed(1)  # another one than that of the preset
    fresh = kc.load_backbone(handle, weights=None)
    assert not np.allclose(fresh.model.get_layer("conv1_conv").kernel, kernel)
    read = kc.load_backbone(handle, weights=folder / "bare" / "model.weights.h5")
    np.testing.assert_array_equal(read.model.get_layer("conv1_conv").kernel, kernel)
    with pytest.raises(FileNotFoundError, match="an existing weight file, or None"):
        kc.load_backbone(handle, weights=folder / "none.h5")


def test_an_unknown_preset_is_one_sentence(keras_hub):
    with pytest.raises(ValueError, match=r"keras-hub could not load 'keras_hub:nonesuch': Unknown preset identifier"):
        kc.load_backbone("keras_hub:nonesuch")


@pytest.mark.parametrize(
    ("crop", "pad", "expected"),
    [
        (True, False, {"resize": "cover"}),
        (False, True, {"resize": "fit", "background": 0}),
        (False, False, {"resize": "squash"}),
    ],
)
def test_the_mode_of_resizing_is_taken_over(crop, pad, expected):
    class Converter:
        crop_to_aspect_ratio, pad_to_aspect_ratio = crop, pad

    assert presets._resizing(Converter) == expected
