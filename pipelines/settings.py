"""Every setting of a job, defined once: type, range, default, help, and whether users may set it.

The command line, the keywords of `fine_tune`, the checks and the table in docs/training.md all come from the fields of
`Settings`. To add a setting, add a field; where its default depends on the data, say how in `pipelines.defaults.choose`.

Nothing here imports Keras before it is called: `keras-cnn fit --help` answers at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pipelines.augment import Augmentation

F = TypeVar("F", bound=Callable)
LIGHT = ("head", "last")
TRAIN = (*LIGHT, "all")  # or the name of a stage, but not of the first
FEWEST_COPIES = 2
FAST, DEFAULT, BEST = PRESETS = ("fast", "default", "best")
AUGMENTATIONS = ("none", "light", "medium", "strong")  # the names of `pipelines.augment.PRESETS`


@dataclass(frozen=True)
class Option:
    """What a field of `Settings` is for its users.

    Attributes:
        help: What it does, in which unit; one line.
        default: What the default is, in words.
        low: The smallest number allowed; None for no numbers.
        high: The largest number allowed; a float needs one.
        choices: The words allowed.
        metavar: What stands for a value in the help of the command line.
    """

    help: str
    default: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    metavar: str | None = None


def _option(help: str, default: str, low=None, high=None, choices=(), metavar=None, value=MISSING) -> Any:
    return field(default=value, metadata={"option": Option(help, default, low, high, tuple(choices), metavar)})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a job does, in numbers. `feature_layer` and `light` follow from the others, which can be set.

    Attributes:
        feature_layer: Name of the layer whose features are cached: what comes before it is not trained on them.
        light: Whether at most the last stage is trained, or later stages on few images: the recipe for few images.
    """

    preset: str = _option(
        "how thorough the job is, if other options do not say; with --time-limit, the most that fit may choose",
        "default; with --time-limit: best",
        choices=PRESETS,
        value=DEFAULT,
    )
    time_limit: float | None = _option(
        "target for the whole job in seconds, on the command line also 10m or 1.5h: it decides the preset and ends training",
        "none",
        1,
        1e8,
        metavar="TIME",
        value=None,
    )
    train: str = _option(
        "what to train: the head only; the last stage too; from a stage on, such as stage3; all",
        "last below 1,000 training images, else all; last above 20,000 without a GPU",
        metavar="{head,last,all,STAGE}",
    )
    feature_layer: str
    light: bool
    epochs: int = _option(
        "passes over the training images; 0, without --train, trains the head only",
        "depends on the number of images, --train and --preset",
        0,
    )
    seed: int = _option("seed of the split, the order, augmentation and dropout", "0", 0, value=0)
    batch_size: int = _option("images per step", "32", 1, value=32)
    learning_rate: float | None = _option(
        "peak learning rate; it rises during the warm-up and falls to zero along a cosine",
        "depends on what is trained; for last, and for stages below 1,000 training images, the better of two in a race",
        0,
        1e6,
    )
    warmup_fraction: float = _option(
        "share of all steps in which the learning rate rises",
        "0.07; 0.1 for last and for stages below 1,000 training images",
        0,
        1,
    )
    weight_decay: float = _option("decoupled weight decay", "0.02", 0, 1, value=0.02)
    label_smoothing: float = _option(
        "share of each label that is spread over all classes", "0.1; 0 with several labels per image", 0, 0.9
    )
    dropout: float = _option("share of the pooled features dropped in training", "0.2", 0, 0.99, value=0.2)
    augmentation: str | Augmentation = _option(
        "data augmentation; strong adds MixUp and CutMix with --train all",
        "light; none for head with 10 images per class, and for last with 1,000 images; medium for all with --preset best",
        choices=AUGMENTATIONS,
    )
    augmented_copies: int = _option(
        "augmented copies of each training image whose features are cached, the plain one included",
        "5; for stages with 1,000 training images or more one per epoch, 2 to 8",
        FEWEST_COPIES,
    )
    horizontal_flip: bool | None = _option(
        "train on flipped images too; not for text, digits or traffic signs",
        "decided by validation",
        value=None,
    )
    class_balance: str | None = _option(
        "balance the classes: sampling shows each class equally often, weights weighs the loss",
        "none; of uneven classes a shift of the logits, if validation shows a gain",
        choices=("none", "sampling", "weights"),
        value=None,
    )
    optimizer: str = _option(
        "optimizer; sgd has Nesterov momentum 0.9", "adamw", choices=("adamw", "sgd"), value="adamw"
    )
    layer_decay: float = _option(
        "factor of the learning rate from each layer to the one before it", "1", 0.01, 1, value=1.0
    )
    ema_momentum: float = _option(
        "momentum of an exponential moving average of the weights, such as 0.99; validation and export use the average",
        "0: none",
        0,
        0.99999,
        value=0.0,
    )
    global_clipnorm: float = _option(
        "largest norm of the gradient of all weights together; 0: no clipping", "1", 0, 1e6, value=1.0
    )
    gradient_accumulation_steps: int = _option("steps whose gradients are added up for one update", "1", 1, value=1)
    patience: int = _option("early stopping: epochs without a better validation score; 0: never", "0", 0, value=0)
    train_depthwise: bool = _option(
        "train depthwise convolutions too",
        "yes if there is a GPU, or for last, or for stages below 1,000 training images",
    )
    mixed_precision: bool = _option("train in bfloat16 with float32 weights", "on GPUs that compute in bfloat16")

    test_input_size: int | None = _option(
        "with --train all, height and width in pixels after training, in test and export; the head is fitted to these images",
        "as in training; with --preset best 8/7 of it, if validation is better",
        1,
        metavar="PIXELS",
        value=None,
    )

    def __post_init__(self):
        from keras_cnn import arguments

        for each in options():
            _check(each, getattr(self, each.name))
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ValueError(arguments.message("fit", "learning_rate", "a positive number", self.learning_rate))

    @property
    def trains_on_images(self) -> bool:
        """Whether training reads augmented images; otherwise cached features."""
        return self.train == "all"

    @property
    def balance(self) -> str | None:
        """How training balances the classes: "sampling", "weights", or None."""
        return None if self.class_balance == "none" else self.class_balance

    @property
    def augments(self) -> bool:
        """Whether training images are changed at random."""
        return self.augmentation != "none"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def options() -> tuple[Field, ...]:
    """The fields of `Settings` that users can set, in order; each has its `Option` in `metadata["option"]`."""
    return tuple(each for each in fields(Settings) if "option" in each.metadata)


def option_of(each: Field) -> Option:
    """The `Option` of a field."""
    return each.metadata["option"]


def kind_of(each: Field) -> str:
    """What a field holds: "int", "float", "bool" or "str"."""
    return str(each.type).split(" | ")[0]


def table() -> str:
    """All options as a Markdown table, as docs/training.md has it."""
    rows = ["| option | Python | what | default |", "|---|---|---|---|"]
    for each in options():
        name, option = each.name, option_of(each)
        flag = f"--{name.replace('_', '-')}"
        choices = f": {', '.join(f'`{word}`' for word in option.choices)}" if option.choices else ""
        rows.append(f"| `{flag}` | `{name}` | {option.help}{choices} | {option.default} |")
    return "\n".join(rows) + "\n"


def with_setting_keywords(function: F) -> F:
    """A decorator: the `**settings` of a function become keywords in its signature, and its docstring names them.

    The docstring holds a line `{settings}` where they are to be listed.
    """
    signature = inspect.signature(function)
    known = set(signature.parameters)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    more = [
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=f"{each.type} | None")
        for each in options()
        if each.name not in known
    ]
    function.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
    lines = [
        f"        {each.name}: {option_of(each).help[0].upper()}{option_of(each).help[1:]}. None: {option_of(each).default}."
        for each in options()
    ]
    function.__doc__ = (function.__doc__ or "").replace("        {settings}", "\n".join(lines))
    return function


def check_names(overrides: Mapping[str, Any]) -> None:
    """TypeError with the list, unless all are names of settings."""
    from keras_cnn import arguments

    known = [each.name for each in options()]
    for name in overrides:
        if name not in known:
            remedy = arguments.suggestion(name, known)
            text = f"fine_tune: a setting must be one of {', '.join(known)}. Received: {name}."
            raise TypeError(f"{text} {remedy}".rstrip())


def _check(each, value):
    from keras_cnn import arguments

    option, kind = option_of(each), kind_of(each)
    if value is None and "None" in str(each.type):
        return
    if option.choices:
        # An `Augmentation` says itself what is out of range.
        if type(value).__name__ != "Augmentation":
            arguments.one_of("fit", each.name, value, option.choices)
    elif kind == "bool":
        if not isinstance(value, bool):
            raise ValueError(arguments.message("fit", each.name, "True or False", value))
    elif kind == "int":
        arguments.integer("fit", each.name, value, int(option.low))
    elif kind == "float":
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not option.low <= value <= option.high:
            expected = f"a number from {option.low:g} to {option.high:g}"
            raise ValueError(arguments.message("fit", each.name, expected, value))
