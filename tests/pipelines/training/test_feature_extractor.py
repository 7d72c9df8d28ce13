"""Features of the frozen part of a network: computed once, cached, and never those of another network."""

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


@pytest.fixture
def extractor(tmp_path):
    """A function to make the extractor of a network that gives its input; two images."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), "uint8")
    model = kc.build((4, 6, 3), {"stage": lambda x: x})
    network = kc.Backbone(model, (), kc.Preprocessing((4, 6)), "made here")
    examples = ImageBatches(pixels, np.zeros(2, int), (4, 6), 2, classes=1, shuffle=False)
    made = lambda images=0: feature_extractor.FeatureExtractor(model, network, ArrayCache(tmp_path / "cache"), images)  # noqa: E731
    return made, examples, pixels


def test_features_of_plain_and_flipped_images(extractor):
    made, examples, pixels = extractor
    seen = []
    plain, flipped = (made().features(examples, "two", seen.append, each) for each in (False, True))
    assert plain.dtype == "float16" and sum(seen) == 4
    np.testing.assert_array_equal(plain, pixels)
    np.testing.assert_array_equal(flipped, pixels[:, :, ::-1])


def test_every_epoch_of_augmented_batches_is_another_copy(extractor):
    made = extractor[0]
    crops = Augmentation(min_crop_area=0.3)
    stored = np.tile(np.arange(5 * 7, dtype="uint8").reshape(5, 7, 1), (2, 1, 1, 3))
    examples = ImageBatches(stored, np.zeros(2, int), (4, 6), 2, classes=1, augmentation=crops, seed=3, shuffle=False)
    copies = made().copies(examples, "two", lambda count: None, 3)
    for epoch, copy in enumerate(copies, 1):
        np.testing.assert_array_equal(copy, next(iter(examples(epoch)))[0].numpy().astype("float16"))
    assert (copies[0] != copies[1]).any()


def test_copies_that_are_not_in_the_cache_are_the_same(extractor, tmp_path):
    """One pipeline makes all copies, also where some are cached: the second of four here."""
    made, crops = extractor[0], Augmentation(min_crop_area=0.3)
    stored = np.tile(np.arange(5 * 7, dtype="uint8").reshape(5, 7, 1), (3, 1, 1, 3))
    examples = ImageBatches(stored, np.zeros(3, int), (4, 6), 2, classes=1, augmentation=crops, seed=3, shuffle=False)
    whole, seen = made().copies(examples, "three", lambda count: None, 4), []
    fresh = feature_extractor.ArrayCache(tmp_path / "fresh")
    cached = fresh.get_or_compute

    def second_only(name, shape, dtype, fill):
        seen.append(name)
        return whole[1] if len(seen) == 2 else cached(name, shape, dtype, fill)

    other = made()
    other._cache.get_or_compute, other._key = second_only, "another"
    for one, again in zip(whole, other.copies(examples, "three", lambda count: None, 4), strict=True):
        np.testing.assert_array_equal(one, again)


def test_features_are_computed_once(extractor, monkeypatch):
    made, examples, pixels = extractor
    made().features(examples, "two", lambda count: None)
    monkeypatch.setattr(feature_extractor, "inference", None)  # nothing is computed from here on
    np.testing.assert_array_equal(made().features(examples, "two", lambda count: None), pixels)
    for images, key in ((0, "others"), (feature_extractor.FOLDED_FROM, "two")):
        if images and not feature_extractor.device.has_bfloat16():
            continue
        with pytest.raises(TypeError):
            made(images).features(examples, key, lambda count: None)


@pytest.mark.parametrize("factor", [300.0, np.inf])  # 255 times 300 is more than float16 holds
def test_features_that_do_not_fit_are_refused_and_not_cached(extractor, tmp_path, factor):
    _, examples, _ = extractor
    model = kc.build((4, 6, 3), {"stage": keras.layers.Rescaling(factor, name="large")})
    made = feature_extractor.FeatureExtractor(
        model, kc.Backbone(model, (), kc.Preprocessing((4, 6)), "made here"), ArrayCache(tmp_path / "cache"), 0
    )
    with pytest.raises(
        TrainingError, match=r"^The features at layer \w+ must be finite and at most 65,504 \(float16\)\."
    ):
        made.features(examples, "two", lambda count: None)
    assert not list((tmp_path / "cache").glob("*/array.npy"))


@pytest.mark.parametrize("change", [{"scale": 2 / 255}, {"offset": -1.0}])
def test_the_same_weights_in_another_network_have_other_features(extractor, tmp_path, change):
    _, examples, pixels = extractor
    found = []
    for options in ({"scale": 1 / 255}, {"scale": 1 / 255, **change}):
        model = kc.build((4, 6, 3), {"stage": keras.layers.Rescaling(name="rescaling", **options)})
        network = kc.Backbone(model, (), kc.Preprocessing((4, 6)), "made here")
        made = feature_extractor.FeatureExtractor(model, network, ArrayCache(tmp_path / "cache"), 0)
        found.append(made.features(examples, "two", lambda count: None))
        np.testing.assert_allclose(found[-1], pixels * options["scale"] + options.get("offset", 0), atol=2e-3)
    assert not np.allclose(*found)


@pytest.mark.slow  # to rewrite the network takes half a minute
def test_the_rewritten_network_gives_the_same():
    model = kc.load_backbone("efficientnet_lite0", input_shape=(64, 64, 3)).model
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 64, 64, 3))
    expected = model(pixels, training=False).numpy()
    found = feature_extractor.inference(model, feature_extractor.FOLDED_FROM)(tf.constant(pixels))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
