"""What the head is fitted to, which copies of the images have features of their own, and what of a network is trained."""

import dataclasses
import random
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from helpers.gray_images import gray_images
from helpers.networks import staged_backbone
from helpers.slow import mark_slow

import keras_cnn as kc
from keras_cnn import surgery
from keras_cnn.training import calibration
from pipelines import defaults
from pipelines.augment import PRESETS
from pipelines.datasets.array_cache import ArrayCache
from pipelines.progress import Progress
from pipelines.training import classifier, refit
from pipelines.training import head as heads
from pipelines.training.classifier import FINE_TUNED, LINEAR_PROBE, Classifier, even_out_classes, select
from pipelines.training.feature_extractor import FeatureExtractor, in_batches, inference
from pipelines.training.fitting import _feature_data, set_trainable
from pipelines.training.head import augmentation_of, fit_head
from pipelines.training.interpolation import COEFFICIENTS, best_coefficient
from pipelines.training.race import Race
from pipelines.training.restarts import FitResult
from pipelines.training.split_images import SplitImages
from pipelines.training.task import calibrated_loss

QUIET = Progress(visible=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """4 images per split and class."""
    return gray_images(tmp_path_factory.mktemp("data"))


@pytest.fixture
def fitted(data, tmp_path, monkeypatch):
    """A function of settings: the head fitted on a new network of three stages; validation decides, few as images are."""
    monkeypatch.setattr(heads, "FEW", 0)

    def fit(chosen_for=12, **options):
        network = staged_backbone("stage1", "stage2", "stage3")
        settings = defaults.choose(network, chosen_for, **{"horizontal_flip": False, **options})
        return fit_head(network, data, settings, ArrayCache(tmp_path), QUIET)

    return fit


def test_copies_have_keys_by_all_that_augments_them(data):
    key, strong = data.augmented_cache_key, PRESETS["strong"]
    assert key(strong, 0) == key(strong, 0)
    others = {key(strong, 1), key(PRESETS["light"], 0), key(dataclasses.replace(strong, erasing=0.5), 0)}
    assert len({key(strong, 0), *others}) == 4


def test_images_are_flipped_only_where_that_is_safe():
    network = SimpleNamespace(stages=[], model=None)
    for flip in (True, False):
        settings = defaults.choose(network, 100, train="head", augmentation="strong", horizontal_flip=flip)
        assert augmentation_of(settings) == dataclasses.replace(PRESETS["strong"], horizontal_flip=flip)
    given = dataclasses.replace(PRESETS["light"], brightness=0.9)
    assert augmentation_of(defaults.choose(network, 100, train="head", augmentation=given)) == given


@pytest.mark.slow
def test_cached_copies_are_not_mixed(fitted, monkeypatch):
    asked, batches = [], SplitImages.augmented_batches

    def augmented(self, source, augmentation, *others, **options):
        asked.append(augmentation)
        return batches(self, source, augmentation, *others, **options)

    monkeypatch.setattr(SplitImages, "augmented_batches", augmented)
    found = fitted(train="head", augmentation="strong", augmented_copies=3)
    assert [(each.mixup, each.cutmix, each.horizontal_flip) for each in asked] == [(0, 0, False)]
    assert asked[0].erasing > 0
    # The plain images and two other copies, and a figure of them.
    assert len(found.copies) == 3 and found.preview.shape[2] == 3
    assert all((one != other).any() for one, other in zip(found.copies, found.copies[1:], strict=False))


@pytest.mark.parametrize(
    ("train", "depthwise", "expected"),
    [
        ("all", True, {"stem", "block1", "block9"}),
        ("all", False, {"stem", "block1", "block9"}),
        ("stage4", False, {"block9"}),
    ],
)
def test_what_is_trained(train, depthwise, expected):
    network = kc.load_backbone("efficientnet_lite0", (32, 32, 3), weights=None)
    settings = defaults.choose(network, 5_000, train=train, train_depthwise=depthwise)
    set_trainable(network.model, None if train == "all" else train, settings)
    paths = [weight.path for weight in network.model.trainable_weights]
    assert expected == {
        name for name in ("stem", "block1", "block9") if any(path.startswith(f"{name}_") for path in paths)
    }
    assert any("depthwise" in path for path in paths) == depthwise
    assert not any("_bn/" in path for path in paths) and "top_conv/kernel" in paths


def gradient(pooled, labels, kernel, bias, l2):
    """Of the loss of a linear probe: X'(p - y) / n + l2 W, on standardised features. Zero at the solution."""
    x = pooled.astype("float64")
    logits = x @ kernel + bias
    p = np.exp(logits - logits.max(1, keepdims=True))
    residual = (p / p.sum(1, keepdims=True) - np.eye(3)[labels]) / len(labels)
    deviation = x.std(0)
    deviation = np.maximum(deviation, np.sqrt((deviation**2).mean()))[:, None]
    return np.abs(((x - x.mean(0)).T / deviation) @ residual + l2 * kernel * deviation).max()


def test_a_selected_probe_is_fitted_to_the_validation_images_too_once_they_have_judged_it(fitted, data):
    head = fitted(train="head", augmentation="none")
    judged, score = head.probabilities.copy(), dict(head.score)
    first = head.model.get_layer("logits").get_weights()
    chosen = select(head, None, QUIET)
    assert chosen.selected == LINEAR_PROBE and chosen.validation == {LINEAR_PROBE: score}
    np.testing.assert_array_equal(chosen.validation_probabilities, judged)
    pooled = np.concatenate([head.copies[0], head.validation_features])
    labels = np.concatenate([data.targets("train"), data.targets("validation")])
    for (kernel, bias), at_solution in ((first, False), (head.model.get_layer("logits").get_weights(), True)):
        assert (gradient(pooled, labels, kernel, bias, head.probe.l2) < 2e-3) == at_solution


@pytest.mark.parametrize("train", mark_slow(["all", "stage2"], except_for=["all"]))
def test_without_a_clear_gain_the_network_is_what_training_the_head_only_gives(fitted, data, train):
    """Whatever fine-tuning has done to the weights: a job that selects the probe ends as `train="head"` does."""
    alone = fitted(train="head", augmentation="none")
    random.seed(0)  # the same network again
    tuned = fitted(train=train, **({"augmented_copies": 2} if train == "stage2" else {}))
    before = tuned.model.get_weights()
    tuned.model.set_weights([weight + 1 for weight in before])
    no_gain = FitResult([{"loss": 1.0}], dict(tuned.score), start_weights=before)
    chosen = select(tuned, no_gain, QUIET)
    assert chosen.selected == LINEAR_PROBE
    np.testing.assert_array_equal(chosen.validation_probabilities, tuned.probabilities)
    select(alone, None, QUIET)
    # With augmented copies its head learns from those too.
    whole = len(tuned.copies) == 1
    ours, theirs = (part.model if whole else part.backbone.model for part in (tuned, alone))
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("train", "copies"),
    [("head", 1), ("head", 5), ("last", 5), pytest.param("stage2", 4, marks=pytest.mark.slow), ("all", 1)],
)
def test_a_head_does_not_see_validation_images_before_it_is_selected(fitted, monkeypatch, train, copies):
    learned, fit_probe = [], heads.fit_linear_probe

    def counted(features, labels, *others, **options):
        learned.append(len(labels))
        return fit_probe(features, labels, *others, **options)

    for module in (heads, refit):
        monkeypatch.setattr(module, "fit_linear_probe", counted)
    options = {"augmented_copies": copies, "chosen_for": 5_000} if train == "stage2" else {}
    head = fitted(train=train, augmentation="none" if copies == 1 else "light", **options)
    probed = [12, 60] if copies == 5 else [12]  # the plain images, then the copies, which only `light` training probes
    assert learned == probed and len(head.copies) == copies
    select(head, None, QUIET)
    assert learned == [*probed, probed[-1] + 12]


@pytest.fixture
def crossed(data, tmp_path):
    """A function of settings: the head fitted by cross-validation, as it is with so few images."""

    def fit(images=data, **options):
        network = staged_backbone("stage1", "stage2", "stage3")
        settings = defaults.choose(network, 12, **{"horizontal_flip": False, "train": "head", **options})
        return fit_head(network, images, settings, ArrayCache(tmp_path), QUIET)

    return fit


@pytest.mark.parametrize("augmentation", ["none", "light"])
def test_with_few_images_each_is_judged_by_a_probe_that_has_not_seen_it(crossed, data, augmentation):
    head = crossed(augmentation=augmentation, augmented_copies=2)
    targets = np.concatenate([data.targets("train"), data.targets("validation")])
    np.testing.assert_array_equal(head.truth, targets)
    for fold, probe in enumerate(head.fold_probes):
        others, own = head.fold_of != fold, head.fold_of == fold
        logits = probe.logits(head.copies[0][own].astype("float32"))
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        found = exponentials / exponentials.sum(1, keepdims=True)
        np.testing.assert_allclose(head.probabilities[own], found, atol=1e-6)
        # It is the best one for the other folds, with their augmented copies, and not for all images.
        for rows, at_solution in ((others, True), (np.full(24, True), False)):
            learned = np.concatenate([copy[rows] for copy in head.copies])
            labels = np.concatenate([targets[rows]] * len(head.copies))
            slope = gradient(learned, labels, probe.kernel, probe.bias, head.probe.l2)
            assert (slope < 2e-3) == at_solution
    assert head.score == head.task.score(head.probabilities, targets)


def test_with_few_images_the_exported_probe_has_learned_from_all_of_them(crossed, data):
    head = crossed(augmentation="none")
    kernel, bias = head.model.get_layer("logits").get_weights()
    assert gradient(head.copies[0], head.targets, kernel, bias, head.probe.l2) < 2e-3 and len(head.targets) == 24
    select(head, None, QUIET)
    np.testing.assert_array_equal(head.model.get_layer("logits").get_weights()[0], kernel)


def test_images_of_a_group_judge_each_other_never(crossed, data):
    groups = tuple(f"group {number // 4}" for number in range(36))  # of one split each
    grouped = SplitImages(dataclasses.replace(data.catalog, groups=groups), data.images, data.preprocessing)
    head = crossed(grouped, augmentation="none")
    assert all(len(set(head.fold_of[start : start + 4])) == 1 for start in range(0, 24, 4))


def fine_tuned(head, gain, coefficient=0.5, change=1e-4):
    """What fine-tuning and the race have given: all weights are a little higher, and `gain` more images are right."""
    start = head.model.get_weights()
    head.model.set_weights([weight + change for weight in start])
    wrong = np.flatnonzero(head.probabilities.argmax(1) != head.truth)
    answers = head.probabilities.copy()
    answers[wrong[:gain]] = np.eye(3)[head.truth[wrong[:gain]]]
    found = Race(1e-3, coefficient, answers, {1e-3: 0.5})
    return FitResult([{"loss": 1.0}], {}, start_weights=start, race=found), start


@pytest.mark.parametrize(("gain", "selected"), [(8, FINE_TUNED), (1, LINEAR_PROBE)])
def test_cross_validation_selects_the_network(crossed, gain, selected):
    """McNemar by hand: 8 > sqrt(8 + 1), and not 1 > sqrt(1 + 1)."""
    head = crossed(augmentation="none")
    fitted, start = fine_tuned(head, gain)
    chosen = select(head, fitted, QUIET)
    assert chosen.selected == selected and set(chosen.validation) == {LINEAR_PROBE, FINE_TUNED}
    share = 0.5 if selected == FINE_TUNED else 0.0
    assert chosen.coefficient == share
    for one, other in zip(head.model.get_weights(), start, strict=True):
        np.testing.assert_allclose(one, other + share * 1e-4, rtol=1e-6, atol=1e-6)
    expected = fitted.race.probabilities if selected == FINE_TUNED else head.probabilities
    np.testing.assert_array_equal(chosen.validation_probabilities, expected)
    assert chosen.decisions[0].name == "selected"


def test_a_last_training_that_went_wrong_is_not_selected(crossed):
    """Cross-validation says what such networks can do; this one does not even know the images that it learned from."""
    head = crossed(augmentation="none")
    fitted, start = fine_tuned(head, 8, coefficient=1.0, change=0.0)
    kernel, bias = head.model.get_layer("logits").get_weights()
    head.model.get_layer("logits").set_weights([-kernel, -bias])
    assert select(head, fitted, QUIET).selected == LINEAR_PROBE
    for one, other in zip(head.model.get_weights(), start, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_training_that_the_time_limit_cut_short_is_not_the_one_that_was_judged(crossed):
    head = crossed(augmentation="none")
    fitted, _ = fine_tuned(head, 8)
    chosen = select(head, dataclasses.replace(fitted, improved=False, out_of_time=True), QUIET)
    assert chosen.selected == LINEAR_PROBE and "the time limit ended the training" in chosen.decisions[0].reason


@pytest.mark.parametrize("seed", range(3))
def test_validation_chooses_the_share_of_fine_tuning(fitted, seed):
    head = fitted(train="last", augmentation="none")
    logits, start = head.model.get_layer("logits"), head.model.get_weights()
    kernel, bias = logits.get_weights()
    change = np.random.default_rng(seed).normal(0, np.abs(kernel).mean(), kernel.shape)
    logits.set_weights([kernel + change, bias])
    end = head.model.get_weights()
    share, probabilities = classifier._interpolate(head, FitResult([], {}, start_weights=start), end)
    np.testing.assert_allclose(head.model.get_weights()[-2], kernel + share * change, rtol=1e-5, atol=1e-8)
    run, losses = inference(head.partition.rest), {}
    for candidate in COEFFICIENTS:
        logits.set_weights([kernel + candidate * change, bias])
        losses[candidate] = calibrated_loss(head.task, in_batches(run, head.validation_features), head.truth)
    assert share == COEFFICIENTS[best_coefficient(list(losses.values()))]
    assert max(losses.values()) > 1.001 * min(losses.values())
    assert calibrated_loss(head.task, probabilities, head.truth) == pytest.approx(losses[share], rel=1e-5)


@pytest.mark.parametrize("train", ["last", "all"])
def test_the_head_of_a_fine_tuned_network_is_fitted_again_where_that_is_better(fitted, data, monkeypatch, train):
    monkeypatch.setattr(classifier, "MARGIN", 0.0)  # these images can hardly be told apart
    head = fitted(train=train, augmentation="none")
    logits, trained_part = head.model.get_layer("logits"), head.partition.rest if train == "last" else head.model
    # As trained: other features, and a head that is far from the best one for them.
    trained_part.set_weights([1.1 * weight for weight in trained_part.get_weights()])
    logits.set_weights([-weight for weight in logits.get_weights()])
    result = FitResult([{"loss": 1.0}], {"loss": 1.0}, start_weights=head.model.get_weights())
    tuned = classifier._tune(head, result, QUIET)
    trained, again = tuned.head_losses
    assert again < trained and tuned.refit is not None and tuned.coefficient == 1
    features, probe = tuned.refit
    pooled = in_batches(inference(keras.Model(head.model.input, head.model.get_layer("pool").output)), pixels(data))
    np.testing.assert_allclose(np.concatenate([features.train, features.validation]), pooled, rtol=1e-2)
    # It has not seen the validation images; they are added once they have decided.
    labels = np.concatenate([data.targets("train"), data.targets("validation")])
    assert gradient(features.train, labels[:12], probe.kernel, probe.bias, probe.l2) < 2e-3
    last = refit.fit_to_validation_too(head, features, probe)
    everything = np.concatenate([features.train, features.validation])
    assert gradient(everything, labels, last.kernel, last.bias, probe.l2) < 2e-3
    assert calibrated_loss(head.task, tuned.probabilities, head.truth) == pytest.approx(again)


def pixels(data):
    """The training images, then the validation images, as the network gets them."""
    return np.concatenate([images for split in ("train", "validation") for images, _ in data.batches(split)()])


def test_a_head_that_is_the_best_one_already_stays_as_trained(fitted):
    head = fitted(train="last", augmentation="none")
    result = FitResult([{"loss": 1.0}], {"loss": 1.0}, start_weights=head.model.get_weights())
    tuned = classifier._tune(head, result, QUIET)
    assert tuned.refit is None and tuned.head_losses[1] == pytest.approx(tuned.head_losses[0], abs=0.01)
    np.testing.assert_array_equal(head.model.get_weights()[-1], head.probe.bias)


@pytest.mark.parametrize(("balance", "shifted"), [(None, True), ("none", False), ("weights", False)])
def test_a_shift_of_the_logits_is_in_the_exported_bias(fitted, balance, shifted):
    """Class 0 has 6 times as many training images as the others, and its logit is 2 too high."""
    head = fitted(augmentation="none", train="head", class_balance=balance)
    targets = np.repeat([0, 1, 2], [18, 3, 3])
    truth = np.tile([0, 1, 2], 20)
    right = np.where(np.eye(3)[truth] == 1, 1.0, 0.0)
    probabilities = np.exp(right + np.array([2.0, 0, 0]))
    probabilities /= probabilities.sum(1, keepdims=True)
    uneven = dataclasses.replace(head, targets=targets, truth=truth)
    before = head.model.get_layer("logits").get_weights()[1]
    found = even_out_classes(Classifier(uneven, None, LINEAR_PROBE, probabilities, {LINEAR_PROBE: head.score}))
    change = head.model.get_layer("logits").get_weights()[1] - before
    assert (np.abs(change).max() > 0) == shifted
    if shifted:
        np.testing.assert_allclose(change, found.adjustment.bias, atol=1e-6)
        assert (found.validation_probabilities.argmax(1) == truth).mean() > (probabilities.argmax(1) == truth).mean()
        assert found.decisions[-1].name == "logit_adjustment" and found.decisions[-1].value == found.adjustment.tau


def test_flips_are_judged_by_images_that_the_probe_has_not_seen(crossed, data, monkeypatch):
    """With so many validation images as decide alone, they do not teach."""
    assert crossed(augmentation="none").fold_of is not None
    monkeypatch.setattr(calibration, "MIN_EXAMPLES", 12)
    assert crossed(augmentation="none").fold_of is None


@pytest.mark.slow
def test_training_from_a_stage_on_reads_its_cached_features(fitted):
    head = fitted(train="stage2")
    set_trainable(head.model, "stage2", head.settings)
    model, batches, validation, _ = _feature_data(head, None, QUIET)
    trained = {weight.path.split("/")[0] for weight in model.trainable_weights}
    assert trained == {layer.name for layer in head.backbone.model.layers[3:] if layer.weights} | {"logits"}
    assert model.input_shape[1:] == (16, 16, 4) and batches.steps == 1
    assert sum(len(x) for x, _ in validation) == 12


def test_no_more_copies_are_made_than_the_cache_has_room_for(tmp_path):
    network = staged_backbone("stage1", "stage2")
    frozen, _ = surgery.split(network.model, "stage1")
    eight = 8 * 10 * 16 * 16 * 4 * 2  # bytes of eight copies of ten images in float16
    for limit, copies in ((eight, 6), (10, 0), (10 * eight, 60)):
        assert FeatureExtractor(frozen, network, ArrayCache(tmp_path, limit), 10).copies_that_fit(10) == copies
