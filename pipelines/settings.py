"""Every default of a job, as a pure function of the data, the backbone and the machine."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

import keras

from keras_cnn import Backbone, arguments, keras_internals, surgery
from pipelines.augment import PRESETS

GENTLE = ("head", "last")
TRAINED = (*GENTLE, "all")  # or the name of a stage, but not of the first
FEWEST_VIEWS, MOST_VIEWS = 2, 8
FEW, MANY = 1_000, 20_000  # training images
# Networks were pretrained on random parts of pictures and tested on the middle: 224 of 256 pixels.
CROP = 0.875
QUICK = 1_500  # images; up to here it takes seconds to ask validation how much of a picture to see
OPTIMIZERS = ("adamw", "sgd")
# The lowest and highest value of each number.
RANGES = {
    "learning_rate": (0.0, 1e6),
    "warm_up": (0.0, 1.0),
    "weight_decay": (0.0, 1.0),
    "label_smoothing": (0.0, 0.9),
    "dropout": (0.0, 0.99),
    "layer_decay": (0.01, 1.0),
    "average": (0.0, 0.99999),
    "clip_norm": (0.0, 1e6),
}
# What a caller may overrule by name; the rest follows from it, from the data and from the network.
OVERRULED = (
    *("batch_size", "learning_rate", "mirror", "warm_up", "weight_decay", "label_smoothing", "dropout", "augmentation"),
    *("optimizer", "layer_decay", "average", "clip_norm", "accumulate", "patience", "mixed_precision", "views"),
    "depthwise",
)
IMAGES = 27_000  # that pass through the whole network in training, where the data do not ask for more or less


@dataclass(frozen=True)
class Settings:
    """What a job does, in numbers.

    Attributes:
        trained: "head": only the head, which is solved; "last": the last stage too, on kept activations of the stages
            before it, gently; the name of a stage: it and all behind it, on kept activations of varied pictures; "all": the
            whole network, on varied pictures.
        boundary: Name of the layer whose activations are kept: what comes before it is not trained on them.
        epochs: Passes over the training images; 0 leaves the solved head as it is.
        batch_size: Images a step.
        learning_rate: Peak of AdamW's rate: reached after `warm_up` of all steps, falling to zero along a cosine.
        warm_up: Share of all steps.
        weight_decay: AdamW's, decoupled.
        label_smoothing: Share of the truth that is spread over all classes; 0 with several labels an image.
        dropout: Share of the pooled features dropped in training.
        augmentation: Name of a preset of `pipelines.augment`: how pictures are varied; without MixUp and CutMix where
            activations are kept.
        views: Views of each training picture whose activations are kept, where that is done and `augmentation` varies them:
            the picture itself, and random ones. They come in turn, an epoch each. Lowered to what the cache can keep.
        mirror: Whether a mirrored picture is as good an example as the picture itself; None: as validation says.
        seed: Of splits, order, views and dropout.
        optimizer: "adamw", or "sgd" with Nesterov's momentum of 0.9.
        layer_decay: Factor of the learning rate from each layer to the one before it (`layerwise_optimizer`); 1: one rate.
        average: Momentum of the running average of weights (`EMAWeights`) that validation sees and that is kept; 0: none.
        clip_norm: Longest gradient, over all weights together; longer ones are shortened to it. 0: no limit.
        accumulate: Steps whose gradients are gathered for one update: as a batch so many times as large.
        patience: Epochs without a better validation score after which training ends; 0: it goes on to the last.
        depthwise: Whether layers of class DepthwiseConv2D are trained with the rest: few numbers, whose gradients take a
            processor without GPU a quarter of a step.
        mixed_precision: Whether the network trains in bfloat16, on weights in float32. Epochs are compared
            as they are trained, the network is tested and exported in float32.
    """

    trained: str
    boundary: str
    epochs: int
    batch_size: int
    learning_rate: float
    warm_up: float
    weight_decay: float
    label_smoothing: float
    dropout: float
    augmentation: str
    mirror: bool | None
    seed: int
    optimizer: str = "adamw"
    layer_decay: float = 1.0
    average: float = 0.0
    clip_norm: float = 1.0
    accumulate: int = 1
    patience: int = 0
    mixed_precision: bool = False
    views: int = 4
    depthwise: bool = True

    def __post_init__(self):
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise ValueError(arguments.message("fit", name, f"a number from {low:g} to {high:g}", value))
        for name, lowest in (("batch_size", 1), ("accumulate", 1), ("views", FEWEST_VIEWS), ("patience", 0)):
            arguments.integer("fit", name, getattr(self, name), lowest)
        for name in ("mixed_precision", "depthwise"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(arguments.message("fit", name, "True or False", getattr(self, name)))
        arguments.one_of("fit", "optimizer", self.optimizer, OPTIMIZERS)
        arguments.one_of("fit", "augmentation", self.augmentation, tuple(PRESETS))
        if not self.learning_rate > 0:
            raise ValueError(arguments.message("fit", "learning_rate", "a positive number", self.learning_rate))

    @property
    def on_pictures(self) -> bool:
        """Whether varied pictures are trained on; otherwise kept activations."""
        return self.trained == "all"

    @property
    def gentle(self) -> bool:
        """Whether so little is trained that it is done at a low rate, and the pictures are enough as they are."""
        return self.trained in GENTLE

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


def crops(images: int, crop: float | None = None) -> tuple[float, ...]:
    """Which shares of height and width to try: the one that is given; with few images also the whole picture."""
    if crop is not None:
        return (crop,)
    return (CROP, 1.0) if images < QUICK else (CROP,)


def choose(
    backbone: Backbone,
    training_images: int,
    *,
    gpu: bool = False,
    bfloat16: bool = False,
    multi_label: bool = False,
    train: str | None = None,
    epochs: int | None = None,
    seed: int = 0,
    **overruled,
) -> Settings:
    """The defaults, and what overrules them.

    With fewer than 1,000 training images the last stage is trained, gently: more would learn them by heart. With more, the
    whole network; on a processor without GPU up to 20,000, and the last stage again beyond, where an
    epoch of the whole network takes too long.

    A network that cannot be taken apart before its last stage (a module of TF Hub, which is one stage; NASNet, whose paths
    run beside each other) has only its head trained instead of the last stage; so has one of one stage, whatever the data.

    Args:
        backbone: The network.
        training_images: Number of images in the training split.
        gpu: Whether there is one.
        bfloat16: Whether it computes in bfloat16; a network then trains in mixed precision.
        multi_label: Whether an image may have several labels.
        train: "head", "last", "all" or the name of a stage but the first, to overrule what is trained.
        epochs: To overrule their number; 0 trains the head only.
        seed: Of splits, order, views and dropout.
        overruled: Other values for attributes of `Settings` that are named in `OVERRULED`; None leaves the default.

    Raises:
        ValueError: If an option is out of range, or "last" or a stage is asked for and the network cannot be taken apart
            before it.
    """
    trained = _trained(backbone, training_images, gpu, train, epochs)
    gentle = trained in GENTLE
    given = {name: value for name, value in overruled.items() if value is not None}
    depthwise = given.get("depthwise", gpu or gentle)
    batch_size = arguments.integer("fit", "batch_size", given.get("batch_size", 32))
    update = batch_size * arguments.integer("fit", "accumulate", given.get("accumulate", 1))
    epochs = 0 if trained == "head" else epochs or _epochs(training_images, update, gentle)
    chosen = Settings(
        trained=trained,
        boundary="pool" if trained in ("head", "all") else _before(backbone, trained),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=_learning_rate(backbone, training_images, trained, depthwise),
        warm_up=0.1 if gentle else 0.07,
        weight_decay=0.02,
        # Smoothed by 0.1, a sigmoid would learn to give each class at least 0.05; many classes occur less often than that.
        label_smoothing=0.0 if multi_label else 0.1,
        dropout=0.2,
        augmentation="none" if gentle else "light",
        mirror=None,
        seed=seed,
        views=4 if gentle else min(max(FEWEST_VIEWS, epochs), MOST_VIEWS),
        depthwise=depthwise,
        mixed_precision=gpu and bfloat16,  # a processor trains more slowly so, even one that has bfloat16
    )
    return replace(chosen, **given)


def _trained(backbone, training_images, gpu, train, epochs):
    if train is not None:
        arguments.one_of("fit", "train", train, TRAINED + tuple(stage.name for stage in backbone.stages[1:]))
    if epochs is not None:
        arguments.integer("fit", "epochs", epochs, 0)
    if epochs == 0:
        return "head"
    kept = train not in (None, "head", "all")
    divided = len(backbone.stages) > 1 and surgery.can_split(
        backbone.model, _before(backbone, train if kept else "last")
    )
    if kept and not divided:
        where = "its last stage" if train == "last" else train
        expected = f'"head" or "all" for a network that cannot be taken apart before {where}'
        raise ValueError(arguments.message("fit", "train", expected, train))
    if train:
        return train
    if len(backbone.stages) > 1 and training_images >= FEW and (gpu or training_images <= MANY):
        return "all"
    return "last" if divided else "head"


def _before(backbone, trained):
    """Name of the stage before the first one that is trained."""
    names = [stage.name for stage in backbone.stages]
    return names[-2] if trained == "last" else names[names.index(trained) - 1]


def _learning_rate(backbone, training_images, trained, depthwise):
    if trained in GENTLE:
        return 3e-5 if training_images < 500 else 1e-4
    if trained == "all":  # twice that diverges on images unlike those of pretraining
        return 6e-4
    layers = keras_internals.sublayers(backbone.model)
    spared = not depthwise and any(isinstance(layer, keras.layers.DepthwiseConv2D) for layer in layers)
    return 1.2e-3 if spared else 6e-4  # what is left bears the higher one


def _epochs(training_images, update, gentle):
    if gentle:
        return min(12, max(5, 1500 // math.ceil(training_images / update)))
    return min(20, max(5, round(IMAGES / training_images)))
