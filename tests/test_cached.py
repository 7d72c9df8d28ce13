"""What training is fed with: every example once an epoch, in views and orders that the seed alone decides."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_cnn as kc
from pipelines.augment import Augmentation
from pipelines.datasets.array_cache import ArrayCache
from pipelines.datasets.image_batches import ImageBatches
from pipelines.errors import TrainingError
from pipelines.training import feature_extractor
from pipelines.training.best_weights import KeepBest


@pytest.fixture
def front(tmp_path):
    """The front of a network that gives its input, and two images."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), "uint8")
    model = kc.build((4, 6, 3), {"stage": lambda x: x})
    network = kc.Backbone(model, (), kc.Preprocessing((4, 6)), "made here")
    examples = ImageBatches(pixels, np.zeros(2, int), (4, 6), 2, classes=1, shuffle=False)
    made = lambda images=0: feature_extractor.Front(model, network, ArrayCache(tmp_path / "cache"), images)  # noqa: E731
    return made, examples, pixels


def test_the_views_of_an_image(front):
    made, examples, pixels = front
    seen = []
    plain, mirrored = (made().activations(examples, "two", view, seen.append) for view in ("plain", "mirrored"))
    assert plain.dtype == "float16" and sum(seen) == 4
    np.testing.assert_array_equal(plain, pixels)
    np.testing.assert_array_equal(mirrored, pixels[:, :, ::-1])


def test_every_epoch_of_varied_batches_is_another_view(front):
    made = front[0]
    crops = Augmentation(min_crop_area=0.3)
    stored = np.tile(np.arange(5 * 7, dtype="uint8").reshape(5, 7, 1), (2, 1, 1, 3))
    examples = ImageBatches(stored, np.zeros(2, int), (4, 6), 2, classes=1, augmentation=crops, seed=3, shuffle=False)
    views = [made().activations(examples, "two", "plain", lambda count: None, epoch) for epoch in (0, 1, 1)]
    np.testing.assert_array_equal(views[1], next(iter(examples(1)))[0].numpy().astype("float16"))
    np.testing.assert_array_equal(views[1], views[2])
    assert (views[0] != views[1]).any()


def test_activations_are_computed_once(front, monkeypatch):
    made, examples, pixels = front
    made().activations(examples, "two", "plain", lambda count: None)
    monkeypatch.setattr(feature_extractor, "inference", None)  # nothing is computed from here on
    np.testing.assert_array_equal(made().activations(examples, "two", "plain", lambda count: None), pixels)
    for images, key in ((0, "others"), (feature_extractor.FOLDED_FROM, "two")):
        if images and not feature_extractor.device.has_bfloat16():
            continue
        with pytest.raises(TypeError):
            made(images).activations(examples, key, "plain", lambda count: None)


@pytest.mark.parametrize("factor", [300.0, np.inf])  # 255 times 300 is more than float16 holds
def test_activations_that_do_not_fit_are_refused_and_not_kept(front, tmp_path, factor):
    _, examples, _ = front
    model = kc.build((4, 6, 3), {"stage": keras.layers.Rescaling(factor, name="large")})
    made = feature_extractor.Front(
        model, kc.Backbone(model, (), kc.Preprocessing((4, 6)), "made here"), ArrayCache(tmp_path / "cache"), 0
    )
    with pytest.raises(
        TrainingError, match=r"^What the network gives at layer \w+ must be finite and within ±65,504, as "
    ):
        made.activations(examples, "two", "plain", lambda count: None)
    assert not list((tmp_path / "cache").glob("*/array.npy"))


@pytest.mark.parametrize("change", [{"scale": 2 / 255}, {"offset": -1.0}])
def test_the_same_weights_in_another_network_have_activations_of_their_own(front, tmp_path, change):
    _, examples, pixels = front
    found = []
    for options in ({"scale": 1 / 255}, {"scale": 1 / 255, **change}):
        model = kc.build((4, 6, 3), {"stage": keras.layers.Rescaling(name="rescaling", **options)})
        network = kc.Backbone(model, (), kc.Preprocessing((4, 6)), "made here")
        made = feature_extractor.Front(model, network, ArrayCache(tmp_path / "cache"), 0)
        found.append(made.activations(examples, "two", "plain", lambda count: None))
        np.testing.assert_allclose(found[-1], pixels * options["scale"] + options.get("offset", 0), atol=2e-3)
    assert not np.allclose(*found)


@pytest.mark.slow  # to rewrite the network takes half a minute
def test_the_rewritten_network_gives_the_same():
    model = kc.load_backbone("efficientnet_lite0", input_shape=(64, 64, 3)).model
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 64, 64, 3))
    expected = model(pixels, training=False).numpy()
    found = feature_extractor.inference(model, feature_extractor.FOLDED_FROM)(tf.constant(pixels))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


class Weights:
    """A stand-in for a model: its weights are whatever was set last."""

    stop_training = False

    def __init__(self):
        self.value = "start"

    def get_weights(self):
        return [np.array(self.value)]

    def set_weights(self, value):
        self.value = str(value[0])


@pytest.mark.parametrize(
    ("start", "epochs", "kept"),
    [
        ((0.5, 1.0), [(0.6, 1.0), (0.8, 0.9), (0.8, 0.7), (0.7, 0.1)], "epoch 3"),  # accuracy first, then the loss
        ((0.9, 1.0), [(0.6, 0.1), (0.8, 0.1)], "start"),
        (
            (0.75, 1.0),
            [(0.9, math.nan), (0.8, math.inf)],
            "start",
        ),  # NaN everywhere names class 0, which may be frequent
        ((0.5, 1.0), [(0.5, 1.0)], "start"),
    ],
)
def test_the_best_weights_stay(start, epochs, kept, tmp_path):
    keeper = KeepBest(dict(zip(("accuracy", "loss"), start, strict=True)))
    model = Weights()
    keeper.set_model(model)
    keeper.on_train_begin()
    for number, (accuracy, loss) in enumerate(epochs, 1):
        model.value = f"epoch {number}"
        keeper.on_epoch_end(number, {"val_accuracy": accuracy, "val_crossentropy": loss})
    keeper.on_train_end()
    assert model.value == kept
    assert keeper.best["accuracy"] == max(accuracy for accuracy, _ in epochs)


def test_with_several_labels_the_mean_average_precision_decides(tmp_path):
    keeper, model = KeepBest({"mean_average_precision": 0.5, "loss": 0.1}), Weights()
    keeper.set_model(model)
    keeper.on_train_begin()
    for epoch, (precision, loss) in {"first": (0.6, 0.4), "second": (0.6, 0.3), "third": (0.55, 0.1)}.items():
        model.value = epoch
        keeper.on_epoch_end(0, {"val_mean_average_precision": precision, "val_crossentropy": loss})
    keeper.on_train_end()
    assert model.value == "second" and keeper.best == {"mean_average_precision": 0.6, "loss": 0.3}


def test_an_epoch_in_which_training_diverged_is_not_kept_however_accurate_it_was():
    model, start = Weights(), {"accuracy": 0.5, "loss": 1.0}
    keeper = KeepBest(start)
    keeper.set_model(model)
    keeper.on_train_begin()
    model.value, model.stop_training = "diverged", True
    keeper.on_epoch_end(0, {"val_accuracy": 0.9, "val_crossentropy": 40.0})
    keeper.on_train_end()
    assert model.value == "start" and keeper.kept == start
