"""All networks of `keras.applications` fold and swap their heads; one of each family freezes stage by stage."""

import gc
import inspect

import keras
import numpy as np
import pytest

import keras_cnn as kc
from keras_cnn import surgery

pytestmark = pytest.mark.slow

NETWORKS = sorted(name for name, member in vars(keras.applications).items() if inspect.isfunction(member))
# Batch normalisation that no neighbour can absorb: pre-activation networks have BN -> ReLU -> convolution.
LEFT = {
    # One before each of the layers, one before each of the three transitions, and the last (Huang et al., 2017, table 1).
    **{f"DenseNet{depth}": sum(blocks) + 3 + 1 for depth, blocks in ((121, (6, 12, 24, 16)), (169, (6, 12, 32, 32)))},
    "DenseNet201": 6 + 12 + 48 + 32 + 3 + 1,
    # One before each block, and the last (He et al., 2016, arXiv:1603.05027, figure 4e).
    "ResNet50V2": 3 + 4 + 6 + 3 + 1,
    "ResNet101V2": 3 + 4 + 23 + 3 + 1,
    "ResNet152V2": 3 + 8 + 36 + 3 + 1,
    # One after each join of two convolutions that brings the last but one map to the size of the last.
    "NASNetLarge": 4,
    "NASNetMobile": 4,
}
FAMILIES = (
    *(
        "ConvNeXtTiny",
        "DenseNet121",
        "EfficientNetB0",
        "EfficientNetV2B0",
        "InceptionResNetV2",
        "InceptionV3",
        "MobileNet",
    ),
    *("MobileNetV2", "MobileNetV3Small", "NASNetMobile", "ResNet50", "ResNet50V2", "VGG16", "Xception"),
)


@pytest.fixture(autouse=True)
def memory():
    yield
    keras.utils.clear_session()
    gc.collect()


def side(name):
    return 75 if name.startswith(("Inception", "Xception")) else 32


def norms(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]


def randomise(model):
    """Statistics of any sign and size with which the signal passes a hundred layers."""
    random = np.random.default_rng(0)
    for norm in norms(model):
        size = norm.moving_mean.shape
        variance = 10 ** random.uniform(-4, 1, size) if norm.scale else random.uniform(1, 4, size)
        norm.moving_variance.assign(variance)
        norm.moving_mean.assign(random.normal(0, 0.3, size))
        if norm.scale:
            norm.gamma.assign(
                random.choice([-1, 1], size) * random.uniform(0.2, 1, size) * np.sqrt(variance + norm.epsilon)
            )
        if norm.center:
            norm.beta.assign(random.normal(0, 0.3, size))


def test_there_are_forty():
    assert len(NETWORKS) == 40 and set(FAMILIES) | set(LEFT) <= set(NETWORKS)


@pytest.mark.parametrize("name", NETWORKS)
def test_fold_and_swap(name):
    shape = (side(name), side(name), 3)
    model = getattr(keras.applications, name)(weights=None, input_shape=shape, classes=10)
    swapped = kc.swap_head(model, 7)
    assert swapped.output_shape == (None, 7)
    assert swapped.count_params() < model.count_params()
    same = [old is new for old, new in zip(model.layers, swapped.layers, strict=True) if old.weights]
    assert same == [True] * (len(same) - 1) + [False]
    if not norms(model):
        assert kc.fold_batch_norm(model) is model
        return
    randomise(model)
    head = model.layers[-1]
    if hasattr(head, "activation"):
        head.activation = keras.activations.linear  # softmax would hide differences
    folded = kc.fold_batch_norm(model)
    assert len(norms(folded)) == len(surgery.unfolded_batch_norms(model)) == LEFT.get(name, 0)
    images = np.random.default_rng(1).uniform(0, 255 if "Efficient" in name else 1, (2, *shape)).astype("float32")
    found, expected = (keras.ops.convert_to_numpy(each(images, training=False)) for each in (folded, model))
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", FAMILIES)
def test_freeze_stage_by_stage(name):
    shape = (side(name), side(name), 3)
    backbone = kc.load_backbone(f"keras:{name}", input_shape=shape, weights=None)
    model = kc.builder.attach(backbone.model, kc.heads.classification(3))
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), "sparse_categorical_crossentropy", run_eagerly=True)
    images, labels = np.random.default_rng(0).uniform(0, 255, (2, *shape)), np.array([0, 1])
    counts = []
    for stage in backbone.stages:
        kc.freeze(model, up_to=stage.name)
        with kc.check_frozen(model) as frozen:
            before = [keras.ops.convert_to_numpy(weight).copy() for weight in model.trainable_weights]
            model.train_on_batch(images, labels)
            after = map(keras.ops.convert_to_numpy, model.trainable_weights)
            assert sum((a != b).any() for a, b in zip(before, after, strict=True)) > 1
        counts.append(len(frozen))
    assert counts == sorted(counts) and len(set(counts)) >= 4  # the last stage of VGG is a pooling layer
    assert len(model.trainable_weights) == 2 and len(frozen) == len(model.weights) - 2
