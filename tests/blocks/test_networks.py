"""Networks rebuilt from blocks have the published parameter counts and compute what `keras.applications` computes."""

import runpy
import sys
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers.slow import mark_slow

from keras_cnn.backbones import efficientnet_lite

EXAMPLES = Path(__file__).parents[2] / "examples"
NETWORKS = runpy.run_path(str(EXAMPLES / "networks.py"))["NETWORKS"]

# Trained parameters: without the moving statistics of batch normalisation, as PyTorch counts.
TRAINED = {
    "resnet18": 11_689_512,  # torchvision.models, `num_params` of the weights
    "resnet34": 21_797_672,  # the same
    "resnet50": 25_557_032,  # the same
    "googlenet": 6_998_552,  # netscope's count of BVLC GoogLeNet, without auxiliary classifiers
    "efficientnet_lite0": 4_652_008,  # the test of the authors' own builder, tensorflow/tpu
}
# All parameters, as `keras.applications` documents and counts them.
ALL = {"mobilenet_v1": 4_253_864, "mobilenet_v2": 3_538_984, "xception": 22_910_480}

LIKE_KERAS = {
    "stride_in": "1x1",
    "use_bias": True,
    "norm": partial(keras.layers.BatchNormalization, epsilon=1.001e-5),
}


def count(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


@pytest.mark.parametrize("name", mark_slow(TRAINED, except_for=["resnet50"]))
def test_trained_parameters_are_as_published(name):
    model = NETWORKS[name]()
    assert count(model.trainable_weights) == TRAINED[name]
    assert model.get_layer("c5").output.shape[1:3] == (7, 7)


@pytest.mark.parametrize("name", mark_slow(ALL, except_for=["mobilenet_v2"]))
def test_all_parameters_are_as_in_keras_applications(name):
    assert NETWORKS[name]().count_params() == ALL[name]


def test_resnet50_with_biases_has_the_parameters_of_keras_applications():
    assert NETWORKS["resnet50"](**LIKE_KERAS).count_params() == 25_636_712


def test_googlenet_as_torchvision_has_it():
    """Batch normalisation, and 3 x 3 where the paper has 5 x 5."""
    model = NETWORKS["googlenet"](norm=keras.layers.BatchNormalization, kernel_size=3)
    assert count(model.trainable_weights) == 6_624_904


def logits_of_both(ours, theirs, size):
    """Logits for the same random images and weights (batch statistics too), copied by order."""
    rng = np.random.default_rng(0)
    weights = []
    for weight in theirs.weights:
        if weight.path.endswith("variance"):
            weights.append(rng.uniform(0.5, 1.5, weight.shape))
        elif len(weight.shape) == 1:
            weights.append(rng.normal(1.0 if weight.path.endswith("gamma") else 0.0, 0.1, weight.shape))
        else:
            weights.append(keras.ops.convert_to_numpy(weight))
    theirs.set_weights(weights)
    ours.set_weights([w.reshape(v.shape) for w, v in zip(weights, ours.weights, strict=True)])
    ours = keras.Model(ours.input, ours.get_layer("logits").output)
    images = rng.normal(size=(2, size, size, 3)).astype("float32")
    return [keras.ops.convert_to_numpy(model(images, training=False)) for model in (ours, theirs)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "original", "size", "options"),
    [
        ("mobilenet_v2", "MobileNetV2", 32, {}),
        ("mobilenet_v1", "MobileNet", 32, {}),
        ("resnet50", "ResNet50", 64, LIKE_KERAS),
        ("xception", "Xception", 75, {}),
    ],
)
def test_outputs_equal_those_of_keras_applications(name, original, size, options):
    shape = (size, size, 3)
    ours = NETWORKS[name](input_shape=shape, classes=10, **options)
    theirs = getattr(keras.applications, original)(
        weights=None, input_shape=shape, classes=10, classifier_activation=None
    )
    result, expected = logits_of_both(ours, theirs, size)
    assert expected.std() > 0.01
    np.testing.assert_allclose(result.reshape(2, 10), expected.reshape(2, 10), atol=1e-4, rtol=0)


def test_efficientnet_lite0_with_the_embedded_weights_equals_the_embedded_network():
    theirs = efficientnet_lite.imagenet_classifier()
    ours = NETWORKS["efficientnet_lite0"]()
    ours.set_weights([keras.ops.convert_to_numpy(weight) for weight in theirs.weights])
    ours = keras.Model(ours.input, ours.get_layer("logits").output)
    image = np.random.default_rng(0).uniform(0, 255, (1, 224, 224, 3)).astype("float32")
    result, expected = ours((image - 127) / 128, training=False), theirs(image, training=False)
    np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (result, expected)), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_the_design_example_prints_its_geometry_and_draws_the_network(tmp_path, monkeypatch, capsys):
    drawing = tmp_path / "network.png"
    monkeypatch.setattr(sys, "argv", ["design_a_network.py", "--epochs", "1", "--out", str(drawing)])
    runpy.run_path(str(EXAMPLES / "design_a_network.py"), run_name="__main__")
    printed = capsys.readouterr().out
    # By hand, (kernel - 1) * stride for each window on the longest path: 3, pooling 2, 5, 3 and 3, four times 3.
    sees = [1 + 2 * 1, 3 + 1 * 2 + 4 * 4, 21 + 2 * 4 + 2 * 8, 45 + 2 * 8 + 3 * 2 * 16]
    for stage, size in zip(("stem", "inception", "separable", "residual"), sees, strict=True):
        assert next(line for line in printed.splitlines() if line.startswith(stage)).split()[7] == str(size)
    assert drawing.stat().st_size > 10_000
