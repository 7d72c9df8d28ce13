"""The defaults of a job."""

import dataclasses

import pytest
from helpers.networks import staged_backbone

import keras_cnn as kc
from pipelines import defaults
from pipelines.recipes import within_a_time_limit
from pipelines.training import restarts

STAGES = staged_backbone("stage1", "stage2", "stage3")
ONE, AROUND = staged_backbone("stage1"), staged_backbone("stage1", "stage2", around=True)


@pytest.mark.parametrize(
    ("network", "images", "gpu", "train", "feature_layer"),
    [
        (STAGES, 999, True, "last", "stage2"),
        (STAGES, 1_000, False, "all", "pool"),
        (STAGES, 20_001, False, "last", "stage2"),
        (STAGES, 20_001, True, "all", "pool"),
        (ONE, 5_000, True, "head", "pool"),
        (AROUND, 100, True, "head", "pool"),
        (AROUND, 5_000, True, "all", "pool"),
    ],
)
def test_what_is_trained(network, images, gpu, train, feature_layer):
    chosen = defaults.choose(network, images, gpu=gpu)
    assert (chosen.train, chosen.feature_layer, chosen.epochs > 0) == (train, feature_layer, train != "head")
    assert defaults.choose(network, images, gpu=gpu, epochs=0).train == "head"
    assert defaults.choose(network, images, gpu=gpu, train="all", epochs=3).epochs == 3


def test_from_a_stage_on_it_is_trained_like_the_whole_but_on_cached_features():
    chosen, whole = defaults.choose(STAGES, 2_640, train="stage2"), defaults.choose(STAGES, 2_640)
    assert (
        chosen == dataclasses.replace(whole, train="stage2", feature_layer="stage1") and chosen.augmentation == "light"
    )
    assert (chosen.trains_on_images, chosen.light, whole.trains_on_images, whole.light) == (False, False, True, False)
    # A copy for each epoch, but not any number of them.
    copies = [defaults.choose(STAGES, 2_640, train="stage2", epochs=epochs).augmented_copies for epochs in (1, 5, 30)]
    assert copies == [2, 5, 8]


@pytest.mark.parametrize("train", ["head", "last"])
def test_features_of_augmented_copies_are_for_few_images(train):
    chosen = [defaults.choose(STAGES, images, train=train) for images in (999, 1_000)]
    assert [each.augmentation for each in chosen] == ["light", "none"] and chosen[0].augmented_copies == 5


def test_the_data_choose_the_rate_of_the_last_stage_only():
    assert defaults.choose(STAGES, 100).learning_rate is None
    assert defaults.choose(STAGES, 100, learning_rate=0.1).learning_rate == 0.1
    assert defaults.choose(STAGES, 5_000).learning_rate == 6e-4


def test_depthwise_kernels_are_trained_where_it_costs_little():
    assert [defaults.choose(STAGES, 5_000, gpu=gpu).train_depthwise for gpu in (False, True)] == [False, True]
    assert defaults.choose(STAGES, 100).train_depthwise  # on cached features
    assert defaults.choose(STAGES, 5_000, train_depthwise=True).train_depthwise


def test_the_rate_is_higher_where_a_stage_is_trained_without_its_depthwise_kernels():
    network = kc.load_backbone("efficientnet_lite0", (32, 32, 3), weights=None)
    assert [
        defaults.choose(network, 5_000, train=train, train_depthwise=depthwise).learning_rate
        for train, depthwise in (("all", None), ("stage4", None), ("stage4", True))
    ] == [6e-4, 1.2e-3, 6e-4]


@pytest.mark.parametrize(
    ("network", "given", "received"),
    [
        (STAGES, {"train": "head", "epochs": 5}, "epochs=5"),
        (STAGES, {"train": "all", "epochs": 0}, "epochs=0"),
        (STAGES, {"train": "stage2", "epochs": 0}, "epochs=0"),
        (ONE, {"epochs": 5}, "epochs=5"),  # its head only is trained by default
    ],
)
def test_epochs_that_would_have_no_effect_are_refused(network, given, received):
    with pytest.raises(ValueError, match=rf"^fit: `epochs` must be .*Received: {received}"):
        defaults.choose(network, 100, **given)


@pytest.mark.parametrize("network", [ONE, AROUND])
def test_a_stage_that_cannot_be_trained_alone(network):
    with pytest.raises(ValueError, match=r'^fit: `train` must be "head" or "all" for a network that cannot be cut'):
        defaults.choose(network, 100, train="last")


def test_a_stage_before_which_the_network_cannot_be_taken_apart():
    with pytest.raises(ValueError, match=r"cannot be cut before stage2\. Received: train='stage2'\.$"):
        defaults.choose(AROUND, 5_000, train="stage2")


def test_the_last_stage_is_trained_for_about_1500_steps_but_5_to_10_epochs_and_at_least_60_steps():
    epochs = [defaults.choose(STAGES, images, train="last").epochs for images in (32 * 100, 32 * 200, 32 * 1000)]
    assert epochs == [10, 7, 5]
    assert [defaults.choose(STAGES, images).epochs for images in (20, 64, 320)] == [60, 30, 10]
    halved = defaults.choose(STAGES, 32 * 200, train="last", batch_size=16, gradient_accumulation_steps=2)
    assert halved.epochs == 7  # as many updates


def test_on_pictures_about_27000_pass_but_5_to_20_epochs():
    assert [defaults.choose(STAGES, images, gpu=True).epochs for images in (1_000, 2_640, 100_000)] == [20, 10, 5]


def test_sigmoids_are_not_smoothed():
    smoothing = [defaults.choose(STAGES, 100, multi_label=several).label_smoothing for several in (False, True)]
    assert smoothing == [0.1, 0.0]


def test_classes_of_images_with_several_labels_cannot_be_balanced():
    assert defaults.choose(STAGES, 100, class_balance="weights").class_balance == "weights"
    with pytest.raises(
        ValueError, match=r"^fit: `class_balance` must be None with several labels per image\. Received"
    ):
        defaults.choose(STAGES, 100, multi_label=True, class_balance="weights")


def test_options_are_checked():
    for options in (
        {"train": "some"},
        {"epochs": -1},
        {"batch_size": 0},
        {"gradient_accumulation_steps": 0},
        {"learning_rate": 0.0},
    ):
        with pytest.raises(ValueError, match=r"^fit: "):
            defaults.choose(STAGES, 100, **options)


def test_with_few_images_the_whole_picture_is_tried_too():
    assert defaults.crop_fractions(1_499) == (0.875, 1.0) and defaults.crop_fractions(1_500) == (0.875,)
    assert defaults.crop_fractions(10, 0.5) == (0.5,)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"layer_decay": 0}, r"^fit: `layer_decay` must be a number from 0.01 to 1. Received: layer_decay=0."),
        ({"ema_momentum": 1}, r"^fit: `ema_momentum` must be a number from 0 to 0.99999."),
        ({"learning_rate": 0}, r"^fit: `learning_rate` must be a positive number."),
        ({"learning_rate": float("nan")}, r"^fit: `learning_rate` must be a number from 0 to 1e\+06."),
        ({"gradient_accumulation_steps": 0}, r"^fit: `gradient_accumulation_steps` must be an integer of at least 1."),
        ({"patience": -1}, r"^fit: `patience` must be an integer of at least 0."),
        ({"optimizer": "adam"}, r"^fit: `optimizer` must be one of 'adamw', 'sgd'."),
        ({"mixed_precision": 1}, r"^fit: `mixed_precision` must be True or False. Received: mixed_precision=1."),
        ({"augmentation": "much"}, r"^fit: `augmentation` must be one of 'none', 'light', 'medium', 'strong'."),
        ({"train_depthwise": "no"}, r"^fit: `train_depthwise` must be True or False."),
        ({"train": "stage9"}, r"^fit: `train` must be one of 'head', 'last', 'all', 'stage2', 'stage3'."),
        ({"augmented_copies": 1}, r"^fit: `augmented_copies` must be an integer of at least 2."),
    ],
)
def test_settings_out_of_range(option, text):
    with pytest.raises(ValueError, match=text):
        defaults.choose(STAGES, 5_000, **option)


def test_mixed_precision_is_for_gpus_that_compute_in_bfloat16():
    machines = [{}, {"bfloat16": True}, {"gpu": True}, {"gpu": True, "bfloat16": True}]
    assert [defaults.choose(STAGES, 5_000, **one).mixed_precision for one in machines] == [False, False, False, True]
    assert defaults.choose(STAGES, 5_000, mixed_precision=True).mixed_precision
    assert not defaults.choose(STAGES, 5_000, gpu=True, bfloat16=True, mixed_precision=False).mixed_precision


def test_what_is_overruled_and_what_is_left():
    plain = defaults.choose(STAGES, 5_000)
    chosen = defaults.choose(STAGES, 5_000, ema_momentum=0.99, augmentation="strong", batch_size=None)
    assert chosen.to_dict() == {**plain.to_dict(), "ema_momentum": 0.99, "augmentation": "strong"}


@pytest.mark.parametrize(("share", "expected"), [(1.0, [0, 1 / 3, 2 / 3, 1]), (0.5, [0, 1 / 2, 1, 1 / 2])])
def test_the_rate_rises_through_the_warm_up_even_if_that_is_all(share, expected):
    chosen = defaults.choose(STAGES, 5_000, epochs=2, learning_rate=1.0, warmup_fraction=share)
    rate = restarts.make_optimizer(None, 4, chosen)._learning_rate
    assert [float(rate(step)) for step in range(4)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("preset", "images", "train", "epochs", "light"),
    [
        ("fast", 999, "head", 0, True),
        ("fast", 1_000, "stage2", 4, False),
        ("best", 999, "stage2", 10, True),
        ("best", 1_000, "all", 40, False),
    ],
)
def test_presets(preset, images, train, epochs, light):
    chosen = defaults.choose(STAGES, images, preset=preset)
    assert (chosen.train, chosen.epochs, chosen.light) == (train, epochs, light)


@pytest.mark.parametrize("network", [ONE, AROUND, staged_backbone("stage1", "stage2", "stage3", around=True)])
def test_a_preset_leaves_the_default_to_a_network_that_cannot_be_cut_so(network):
    for images in (100, 5_000):
        default = defaults.choose(network, images)
        assert defaults.choose(network, images, preset="best").train == default.train
    assert defaults.choose(network, 5_000, preset="fast").train == "head"


def test_presets_where_the_whole_network_takes_too_long():
    chosen = [defaults.choose(STAGES, 30_000, preset=preset).train for preset in ("fast", "default", "best")]
    assert chosen == ["head", "last", "stage2"]


def test_only_the_whole_network_gets_more_augmentation():
    assert defaults.choose(STAGES, 5_000, preset="best").augmentation == "medium"
    assert defaults.choose(STAGES, 5_000, preset="best", augmentation="none").augmentation == "none"
    assert defaults.choose(STAGES, 5_000, preset="best", train="head").augmentation == "none"
    assert defaults.choose(STAGES, 500, preset="best").augmentation == "light"


@pytest.mark.parametrize(
    ("train", "classes", "expected"),
    [("head", 10, "none"), ("head", 11, "light"), ("head", None, "light"), ("last", 10, "light")],
)
def test_a_head_learns_from_augmented_copies_below_ten_images_per_class(train, classes, expected):
    assert defaults.choose(STAGES, 100, train=train, classes=classes).augmentation == expected
    given = defaults.choose(STAGES, 100, train=train, classes=classes, augmentation="strong")
    assert given.augmentation == "strong"


def test_what_the_user_says_is_more_than_a_preset():
    assert defaults.choose(STAGES, 5_000, preset="fast", train="all").epochs == defaults.choose(STAGES, 5_000).epochs
    assert defaults.choose(STAGES, 500, preset="best", epochs=3).train == "last"
    assert defaults.choose(STAGES, 500, preset="best", epochs=0).train == "head"
    with pytest.raises(
        ValueError, match=r"^fit: `preset` must be one of 'fast', 'default', 'best'\. Received: preset='bets'"
    ):
        defaults.choose(STAGES, 500, preset="bets")


def test_later_stages_on_few_images_are_trained_like_the_last_one():
    last, late = (defaults.choose(STAGES, 500, train=train) for train in ("last", "stage2"))
    assert late == dataclasses.replace(last, train="stage2", feature_layer="stage1") and late.learning_rate is None


def test_a_time_limit_may_be_given_a_most_thorough_preset():
    assert [each["preset"] for each in within_a_time_limit({})] == ["best", "default", "fast", "fast"]
    assert [each["preset"] for each in within_a_time_limit({"preset": "default"})] == ["default", "fast", "fast"]
    assert within_a_time_limit({"preset": "fast", "train": "all"}) == [{"preset": "fast"}]
