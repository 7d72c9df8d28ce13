"""The embedded network computes what the original computes (reference of `tools/make_efficientnet_reference.py` in PyTorch)."""

import hashlib
import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from skimage import data

import keras_cnn as kc
from keras_cnn.backbones import efficientnet_lite

pytestmark = pytest.mark.any_backend

REFERENCE = Path(__file__).parents[1] / "data" / "efficientnet_lite0_logits.npz"


@pytest.fixture(scope="module")
def classifier():
    return efficientnet_lite.imagenet_classifier()


def central_crop(name):
    """As the original was evaluated: the central square of 7/8 of the short side, scaled by Pillow's bicubic filter."""
    image = Image.fromarray(getattr(data, name)())
    side = int(224 / 256 * min(image.size))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC))


def test_logits_equal_those_of_the_pytorch_original(classifier):
    with np.load(REFERENCE) as reference:
        names, expected = reference["names"], reference["logits"]
    logits = classifier.predict(np.stack([central_crop(name) for name in names]).astype("float32"), verbose=0)
    np.testing.assert_allclose(logits, expected, atol=1e-2)
    for ours, theirs in zip(logits, expected, strict=True):
        assert list(ours.argsort()[::-1][:5]) == list(theirs.argsort()[::-1][:5])


@pytest.mark.parametrize(
    ("photo", "classes", "probabilities"),
    [
        ("cat", (282, 285, 281), (0.385, 0.363, 0.167)),  # tiger cat, Egyptian cat, tabby
        ("coffee", (967,), (0.951,)),  # espresso
        ("rocket", (657,), (0.320,)),  # missile
    ],
)
def test_photos_are_classified_correctly(classifier, photo, classes, probabilities):
    scores = keras.ops.softmax(classifier(central_crop(photo).astype("float32")[None]))[0]
    top = np.argsort(keras.ops.convert_to_numpy(scores))[::-1][: len(classes)]
    assert tuple(top) == classes
    np.testing.assert_allclose(keras.ops.convert_to_numpy(scores)[top], probabilities, atol=2e-3)


def test_parameters_as_published(classifier):
    # 4,652,008 trainable parameters (the size of the published weight file less its running statistics).
    assert sum(int(np.prod(v.shape)) for v in classifier.trainable_weights) == 4_652_008


def test_it_consists_of_layers_of_keras(classifier):
    assert {type(layer).__module__.split(".")[0] for layer in classifier.layers} == {"keras"}


def test_stages_have_the_strides_and_channels_of_the_paper():
    backbone = kc.load_backbone("efficientnet_lite0", input_shape=(96, 64, 3), weights=None)
    assert [(s.stride, s.channels) for s in backbone.stages] == [(2, 16), (4, 24), (8, 40), (16, 112), (32, 1280)]
    for stage, feature in zip(backbone.stages, backbone.features().values(), strict=True):
        assert feature.shape == (None, 96 // stage.stride, 64 // stage.stride, stage.channels)
    assert backbone.preprocessing.size == (96, 64)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "millions"),
    # The table in README.md of tensorflow/tpu, models/official/efficientnet/lite.
    [
        ("efficientnet_lite1", 240, 5.4),
        pytest.param("efficientnet_lite2", 260, 6.1, marks=pytest.mark.slow),
        pytest.param("efficientnet_lite3", 280, 8.2, marks=pytest.mark.slow),
        pytest.param("efficientnet_lite4", 300, 13.0, marks=pytest.mark.slow),
    ],
)
def test_larger_variants_have_the_published_sizes(name, size, millions):
    model = efficientnet_lite.classifier(name, None)
    assert model.input_shape == (None, size, size, 3)
    assert round(sum(int(np.prod(v.shape)) for v in model.trainable_weights) / 1e6, 1) == millions


@pytest.mark.slow
def test_weights_of_a_local_file(tmp_path):
    path = tmp_path / "own.npz"
    with np.load(efficientnet_lite.EMBEDDED) as arrays:
        entries = dict(arrays)
    entries["top_bn/beta"] = entries["top_bn/beta"] + 1
    np.savez(path, **entries)
    backbone = kc.load_backbone("efficientnet_lite0", (32, 32, 3), weights=path)
    np.testing.assert_array_equal(backbone.model.get_layer("top_bn").beta, entries["top_bn/beta"])
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert str(backbone.source) == f"efficientnet_lite0, {path} (sha256 {sha256})"
    whole = path.read_bytes()
    np.savez(path, **{name: array for name, array in entries.items() if name != "top_bn/beta"})
    with pytest.raises(ValueError, match=r"an array layer/weight .*efficientnet_lite0\. .*own\.npz, .*top_bn/beta"):
        efficientnet_lite.load_weights(backbone.model, path)
    np.savez(path, **{**entries, "top_bn/beta": np.zeros(3)})
    with pytest.raises(ValueError, match=r"own\.npz, where this fails: .*\(3,\)"):
        efficientnet_lite.load_weights(backbone.model, path)
    path.write_bytes(whole[:1000])
    with pytest.raises(ValueError, match=r"`weights` must be an \.npz file"):
        efficientnet_lite.load_weights(backbone.model, path)


def test_errors_about_missing_weights_say_what_to_do(tmp_path):
    with pytest.raises(
        ValueError, match=r"the weights of efficientnet_lite3 are not part of this package\. Name an \.npz"
    ):
        kc.load_backbone("efficientnet_lite3")
    with pytest.raises(
        FileNotFoundError, match=r"`weights` must be .*, an existing weight file, or None\. .*none\.npz"
    ):
        kc.load_backbone("efficientnet_lite0", weights=tmp_path / "none.npz")


def test_the_source_of_the_embedded_weights():
    source = efficientnet_lite._source("efficientnet_lite0", efficientnet_lite.EMBEDDED)
    assert str(source).startswith("efficientnet_lite0, ImageNet-1k, © 2020 ML Illustrated, Apache-2.0 (sha256 ")


@pytest.mark.slow
def test_checkpoints_of_the_authors_are_converted(tmp_path):
    import tensorflow as tf

    path = Path(__file__).parents[2] / "tools" / "convert_lite_checkpoint.py"
    spec = importlib.util.spec_from_file_location("convert_lite_checkpoint", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    model = efficientnet_lite.classifier("efficientnet_lite1", None)
    names = tool.names(model)
    # As other converters of these checkpoints list them, lukemelas/EfficientNet-PyTorch among them.
    assert names["block1_project_conv/kernel"] == "blocks_0/conv2d/kernel"
    assert names["block1_project_bn/gamma"] == "blocks_0/tpu_batch_normalization_1/gamma"
    assert names["block1_depthwise_conv/kernel"] == "blocks_0/depthwise_conv2d/depthwise_kernel"
    assert names["block2_project_conv/kernel"] == "blocks_1/conv2d_1/kernel"
    assert names["block2_depthwise_bn/beta"] == "blocks_1/tpu_batch_normalization_1/beta"
    assert names["block2_project_bn/moving_mean"] == "blocks_1/tpu_batch_normalization_2/moving_mean"
    values = {f"{layer.name}/{v.name}": np.asarray(v) for layer in model.layers for v in layer.weights}
    entries = {f"efficientnet-lite1/{names[entry]}/ExponentialMovingAverage": value for entry, value in values.items()}
    entries["efficientnet-lite1/head/dense/bias"] = np.full(1000, np.nan, "float32")  # not the average
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "model.ckpt"),
        tensor_names=list(entries),
        shape_and_slices=[""] * len(entries),
        tensors=list(entries.values()),
    )
    converted = tool.convert(str(tmp_path / "model.ckpt"), "efficientnet_lite1")
    assert converted.keys() == values.keys()
    assert all((converted[entry] == value).all() for entry, value in values.items())
