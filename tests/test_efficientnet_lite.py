"""The embedded network says what the original says (numbers made by `tools/make_efficientnet_reference.py` in PyTorch)."""

from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from skimage import data

import keras_cnn as kc
from keras_cnn.backbones import efficientnet_lite

REFERENCE = Path(__file__).parent / "data" / "efficientnet_lite0_logits.npz"


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
def test_names_what_a_person_sees(classifier, photo, classes, probabilities):
    scores = keras.ops.softmax(classifier(central_crop(photo).astype("float32")[None]))[0]
    top = np.argsort(keras.ops.convert_to_numpy(scores))[::-1][: len(classes)]
    assert tuple(top) == classes
    np.testing.assert_allclose(keras.ops.convert_to_numpy(scores)[top], probabilities, atol=2e-3)


def test_parameters_as_published(classifier):
    # 4,652,008 trained numbers (the size of the published weight file less its running statistics).
    assert sum(int(np.prod(v.shape)) for v in classifier.trainable_weights) == 4_652_008


def test_made_of_layers_that_every_keras_knows(classifier):
    assert {type(layer).__module__.split(".")[0] for layer in classifier.layers} == {"keras"}


def test_stages_have_the_strides_and_channels_of_the_paper():
    backbone = kc.load_backbone("efficientnet_lite0", input_shape=(96, 64, 3), weights=None)
    assert [(s.stride, s.channels) for s in backbone.stages] == [(2, 16), (4, 24), (8, 40), (16, 112), (32, 1280)]
    for stage, feature in zip(backbone.stages, backbone.features().values(), strict=True):
        assert feature.shape == (None, 96 // stage.stride, 64 // stage.stride, stage.channels)
    assert backbone.preprocessing.size == (96, 64)


def test_unknown_handle_and_missing_file_say_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"`handle` must be one of 'efficientnet_lite0'\. Received: handle='resnet'"):
        kc.load_backbone("resnet")
    with pytest.raises(FileNotFoundError, match=r"`weights` must be an existing \.npz file"):
        kc.load_backbone("efficientnet_lite0", weights=tmp_path / "none.npz")
