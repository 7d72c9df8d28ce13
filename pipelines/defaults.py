"""The defaults of a job: which settings fit these data, this network and this machine."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import keras

from keras_cnn import Backbone, arguments, keras_internals, surgery
from pipelines.recipes import MIN_IMAGES_WHOLE_NETWORK, preset_settings
from pipelines.settings import BEST, DEFAULT, FAST, FEWEST_COPIES, LIGHT, PRESETS, TRAIN, Settings, check_names

MOST_COPIES = 8
HEAD_NEEDS_NO_COPIES = 10  # training images per class, from which augmented copies no longer help a linear probe
MAX_IMAGES_WHOLE_NETWORK_CPU = 20_000  # training images; with more an epoch takes too long
# Networks were pretrained on random crops and tested on the centre: 224 of 256 pixels.
CROP_FRACTION = 0.875
COMPARE_CROPS_BELOW = 1_500  # images; it then takes seconds to compare two crop fractions on validation
# Peak learning rates of the last stage, of which a race on the data selects one (`pipelines.training.race`).
RATES = (3e-4, 1e-3)
MIN_STEPS = 60  # of training the last stage: with a few dozen images an epoch is only one or two steps
# Images that pass through the whole network in training, where the limits of the epochs do not ask for more or fewer.
IMAGES_PER_TRAINING = 27_000


def crop_fractions(images: int, crop_fraction: float | None = None) -> tuple[float, ...]:
    """Which crop fractions to compare: the one that is given; with few images 7/8 and the whole image."""
    if crop_fraction is not None:
        return (crop_fraction,)
    return (CROP_FRACTION, 1.0) if images < COMPARE_CROPS_BELOW else (CROP_FRACTION,)


def choose(
    backbone: Backbone,
    training_images: int,
    *,
    gpu: bool = False,
    bfloat16: bool = False,
    multi_label: bool = False,
    classes: int | None = None,
    **overrides: Any,
) -> Settings:
    """The settings of a job: defaults for these data, this network and this machine, and what the user overrides.

    With fewer than 1,000 training images the last stage is trained: more would overfit. With more, the whole network; without
    a GPU only up to 20,000 images, and the last stage again with more, where an epoch of the whole network takes too long.

    A network that cannot be cut before its last stage (a module of TF Hub, which is one stage; NASNet, whose paths run beside
    each other) has only its head trained instead of the last stage; so has one of one stage, whatever the data.

    Args:
        backbone: The network.
        training_images: Number of images in the training split.
        gpu: Whether there is one.
        bfloat16: Whether it computes in bfloat16; a network then trains in mixed precision.
        multi_label: Whether an image may have several labels.
        classes: Number of classes; None: not known, so that few images per class are assumed.
        overrides: Values for fields of `Settings`; None leaves the default.

    Raises:
        TypeError: If there is no such setting.
        ValueError: If a value is out of range, if "last" or a stage shall be trained and the network cannot be cut before it,
            if epochs are given and only the head is trained, or none and more than the head.
    """
    check_names(overrides)
    if multi_label and overrides.get("class_balance") not in (None, "none"):
        expected = "None with several labels per image"
        raise ValueError(arguments.message("fit", "class_balance", expected, overrides["class_balance"]))
    _check_flips(overrides)
    given = {name: value for name, value in overrides.items() if value is not None}
    preset = arguments.one_of("fit", "preset", given.get("preset", DEFAULT), PRESETS)
    default = _train(backbone, training_images, gpu, None, None)
    given = {**_preset(preset, backbone, default, given), **given}
    train = _train(backbone, training_images, gpu, given.get("train"), given.get("epochs"))
    if train == "head" and given.get("epochs"):
        expected = "0 or None where only the head is trained, without epochs; train='all' takes them"
        raise ValueError(arguments.message("fit", "epochs", expected, given["epochs"]))
    light = train in LIGHT or (train != "all" and training_images < MIN_IMAGES_WHOLE_NETWORK)
    batch_size = arguments.integer("fit", "batch_size", given.get("batch_size", 32))
    accumulated = given.get("gradient_accumulation_steps", 1)
    update = batch_size * arguments.integer("fit", "gradient_accumulation_steps", accumulated)
    epochs = 0 if train == "head" else given.get("epochs") or _epochs(training_images, update, light, preset)
    train_depthwise = given.get("train_depthwise", gpu or light)
    defaults = Settings(
        train=train,
        light=light,
        feature_layer="pool" if train in ("head", "all") else _stage_before(backbone, train),
        epochs=epochs,
        learning_rate=_learning_rate(backbone, train, light, train_depthwise),
        warmup_fraction=0.1 if light else 0.07,
        # Smoothed by 0.1, a sigmoid would learn to give each class at least 0.05; many classes occur less often than that.
        label_smoothing=0.0 if multi_label else 0.1,
        augmentation=_augmentation(train, training_images, classes, light, preset),
        augmented_copies=5 if light else min(max(FEWEST_COPIES, epochs), MOST_COPIES),
        train_depthwise=train_depthwise,
        mixed_precision=gpu and bfloat16,  # a processor trains more slowly so, even one that has bfloat16
    )
    return replace(defaults, **{**given, "train": train, "epochs": epochs})


def _preset(preset, backbone, default, given):
    """What a preset sets about what to train; nothing if the user says that."""
    if "train" in given or "epochs" in given:
        return {}
    found = preset_settings(preset, default, backbone)
    if _divides(backbone, found.get("train")):
        return found
    return {"train": "head"} if preset == FAST else {}


def _check_flips(overrides):
    """Flips are part of an augmentation: an `Augmentation` says whether it has them."""
    if overrides.get("horizontal_flip") is not None and type(overrides.get("augmentation")).__name__ == "Augmentation":
        expected = "None with an Augmentation, which has a horizontal_flip itself"
        raise ValueError(arguments.message("fit", "horizontal_flip", expected, overrides["horizontal_flip"]))


def _train(backbone, training_images, gpu, train, epochs):
    if train is not None:
        arguments.one_of("fit", "train", train, TRAIN + tuple(stage.name for stage in backbone.stages[1:]))
    if epochs is not None:
        arguments.integer("fit", "epochs", epochs, 0)
    if epochs == 0 and train not in (None, "head"):
        raise ValueError(arguments.message("fit", "epochs", f"at least 1 with train={train!r}", epochs))
    if epochs == 0:
        return "head"
    from_a_stage = train not in (None, "head", "all")
    stage = train if from_a_stage else "last"
    divides = _divides(backbone, stage)
    if from_a_stage and not divides:
        where = "its last stage" if train == "last" else train
        expected = f'"head" or "all" for a network that cannot be cut before {where}'
        raise ValueError(arguments.message("fit", "train", expected, train))
    if train:
        return train
    trains_quickly = gpu or training_images <= MAX_IMAGES_WHOLE_NETWORK_CPU
    if len(backbone.stages) > 1 and training_images >= MIN_IMAGES_WHOLE_NETWORK and trains_quickly:
        return "all"
    return "last" if divides else "head"


def _divides(backbone, train):
    """Whether the network can be cut before what is trained."""
    if train in (None, "head", "all"):
        return True
    return len(backbone.stages) > 1 and surgery.can_split(backbone.model, _stage_before(backbone, train))


def _stage_before(backbone, train):
    """Name of the stage before the first one that is trained."""
    names = [stage.name for stage in backbone.stages]
    return names[-2] if train == "last" else names[names.index(train) - 1]


def _learning_rate(backbone, train, light, train_depthwise):
    if light:
        return None  # a race decides
    if train == "all":  # twice that diverges on images unlike those of pretraining
        return 6e-4
    layers = keras_internals.sublayers(backbone.model)
    spared = not train_depthwise and any(isinstance(layer, keras.layers.DepthwiseConv2D) for layer in layers)
    return 1.2e-3 if spared else 6e-4  # the other layers tolerate the higher one


def _augmentation(train, training_images, classes, light, preset):
    # Features of augmented copies take several times as long as those of plain images, and help only where images are few.
    many_per_class = classes is not None and training_images >= HEAD_NEEDS_NO_COPIES * classes
    if (light and training_images >= MIN_IMAGES_WHOLE_NETWORK) or (train == "head" and many_per_class):
        return "none"
    return "medium" if preset == BEST and train == "all" else "light"


def _epochs(training_images, update, light, preset):
    if light:
        steps = math.ceil(training_images / update)
        return max(min(10, max(5, 1500 // steps)), math.ceil(MIN_STEPS / steps))
    epochs = min(20, max(5, round(IMAGES_PER_TRAINING / training_images)))
    return 2 * epochs if preset == BEST else epochs
