"""The flip check: flipped images are safe where a head that was fitted to unflipped images still knows them."""

import math

import keras
import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.special import softmax

import keras_cnn as kc
from keras_cnn.training import fit_linear_probe
from pipelines.augment import check_flips, check_flips_by_cross_validation
from pipelines.datasets.array_cache import ArrayCache
from pipelines.datasets.image_files import load_images
from pipelines.sample import DIRECTORY
from pipelines.training import feature_extractor


def test_flips_are_safe_if_the_head_still_knows_the_flipped_images():
    # Two classes, equally frequent: H = log 2. Probabilities of the true class, of the images and of the flipped images:
    plain, flipped = np.array([0.8, 0.8, 0.9, 0.9]), np.array([0.8, 0.8, 0.9, 0.3])
    targets = np.array([0, 0, 1, 1])

    def check(plain, flipped):
        true = np.eye(2)[targets]
        probabilities = [p[:, None] * true + (1 - p)[:, None] * (1 - true) for p in (plain, flipped)]
        return check_flips(*probabilities, targets)

    same, other = check(plain, plain), check(plain, flipped)
    assert same.is_safe and same.retained == 1 and same.plain == same.flipped == pytest.approx(0.164252, abs=1e-6)
    assert other.flipped - other.plain == pytest.approx(math.log(3) / 4)
    assert other.retained == pytest.approx(1 - math.log(3) / 4 / (math.log(2) - 0.164252), abs=1e-5)
    assert not other.is_safe and other.harmed == ()  # the loss of class 1 rises by 0.55 nats
    assert check(plain, np.array([0.8, 0.8, 0.2, 0.3])).harmed == (1,)  # by 1.30
    assert not check(1 - plain, 1 - plain).is_safe  # a head that knows nothing cannot decide


def test_with_several_labels_the_loss_is_summed_over_the_classes():
    # Two classes, each on half of the images: H = 2 log 2. Class 1 is not found on the flipped image of one example.
    truth = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
    plain = np.where(truth, 0.9, 0.1)
    flipped = plain.copy()
    flipped[1, 1] = 0.1
    found = check_flips(plain, flipped, truth)
    assert found.plain == pytest.approx(-2 * math.log(0.9))
    assert found.flipped - found.plain == pytest.approx(math.log(9) / 4)
    assert found.retained == pytest.approx(1 - math.log(9) / 4 / (2 * math.log(2) + 2 * math.log(0.9)))
    assert found.harmed == (1,)  # by log(9) / 2 = 1.10 on its two images
    assert check_flips(plain, plain, truth).is_safe


def test_one_harmed_class_of_many_is_found():
    targets = np.repeat(np.arange(50), 4)
    plain = np.full((200, 50), 0.1 / 49) + np.eye(50)[targets] * (0.9 - 0.1 / 49)
    flipped = plain.copy()
    flipped[targets == 7] = plain[targets == 8]
    found = check_flips(plain, flipped, targets)
    assert found.retained > 0.9 and found.harmed == (7,) and not found.is_safe


@pytest.mark.parametrize("independent", [False, True])
def test_cross_validation_finds_flips_that_change_the_class(independent):
    """One feature separates two classes. A flip changes the sign of that feature, or of another one."""
    random, targets = np.random.default_rng(0), np.arange(64) % 2
    plain = random.normal(size=(64, 20)).astype("float32")
    plain[:, 0] = np.where(targets, 2, -2)
    truth = np.stack([targets, np.arange(64) // 2 % 2], 1) if independent else targets
    plain[:, 1] = np.where(np.arange(64) // 2 % 2, 2, -2)
    fold_of = np.arange(64) // 4 % 4  # each with both classes and both signs
    changed, same = plain * np.where(np.arange(20) == 0, -1, 1), plain * np.where(np.arange(20) == 5, -1, 1)
    assert not check_flips_by_cross_validation(plain, changed, truth, 2, 0.01, fold_of).is_safe
    assert check_flips_by_cross_validation(plain, same, truth, 2, 0.01, fold_of).is_safe
    # No feature separates the classes: what the heads know of their own training examples does not count.
    noise = plain[:, 2:]
    assert not check_flips_by_cross_validation(noise, noise, truth, 2, 0.01, fold_of).is_safe


@pytest.mark.slow
def test_flips_are_safe_for_drawings_and_not_for_arrows(tmp_path):
    """Flips are safe for the drawings of the sample, and not where left and right are the classes."""
    backbone = kc.load_backbone("efficientnet_lite0", input_shape=(96, 96, 3))
    run = feature_extractor.inference(
        keras.Model(backbone.model.input, keras.layers.GlobalAveragePooling2D()(backbone.model.output))
    )

    def check(images, targets):
        train, test = np.arange(len(targets)) % 3 > 0, np.arange(len(targets)) % 3 == 0
        plain, flipped = (feature_extractor.in_batches(run, batch) for batch in (images, images[:, :, ::-1]))
        classes = targets.max() + 1
        head = fit_linear_probe(plain[train], targets[train], classes, plain[test], targets[test])
        logits = [features[test] @ head.kernel + head.bias for features in (plain, flipped)]
        return check_flips(*softmax(logits, axis=2), targets[test])

    files = [path for name in ("birds", "music", "plants") for path in sorted((DIRECTORY / name).iterdir())[:30]]
    drawings = load_images(files, kc.Preprocessing(96), ArrayCache(tmp_path)).astype("float32")
    assert check(drawings, np.repeat(np.arange(3), 30)).is_safe
    random, arrows = np.random.default_rng(0), []
    for _ in range(60):
        image = Image.new("RGB", (96, 96), tuple(random.integers(150, 256, 3).tolist()))
        x, y, size = random.integers(5, 30, 3).tolist()
        shape = [(x, y + size), (x + size, y), (x + size, y + size * 2 // 3), (x + 2 * size, y + size * 2 // 3)]
        ImageDraw.Draw(image).polygon(shape + [(a, 2 * (y + size) - b) for a, b in shape[:0:-1]], fill="black")
        arrows.append(np.array(image))
    right = np.array(arrows)[1::2, :, ::-1]
    both = np.concatenate([np.array(arrows)[::2], right]).astype("float32")
    assert not check(both, np.repeat([0, 1], 30)).is_safe
