"""The plan of a job: what it will do, how long each phase will take, and what fits into a time limit."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipelines.defaults import RATES
from pipelines.settings import DEFAULT, Settings
from pipelines.training.decisions import Decision
from pipelines.training.folds import FOLDS
from pipelines.training.head import caches_copies, decides_by_folds
from pipelines.training.interpolation import COEFFICIENTS
from pipelines.training.race import MOST_STEPS
from pipelines.training.size_after_training import READING, Size, choose_size
from pipelines.training.speed import Speed

MARGIN = 0.9  # of the time limit: predictions are rough
# Fixed costs, in the times that it takes to trace the network, or a step of its training, once.
EXPORT, COMPILE = 20.0, 3.0
PROBE = 2e-8  # seconds per image, feature and class

TRAINING = ("Choosing the learning rate", "Fine-tuning")
AFTER = (  # training
    "Features after training",
    "Fitting the head again",
    READING,
    "Testing",
    "Exporting and verifying",
)


@dataclass(frozen=True)
class Counts:
    """How much work there is.

    Attributes:
        train, validation, test: Images per split.
        classes: Number of classes.
        features: Number of pooled features.
        reading: Seconds per image to read it.
        crops: Number of crop fractions that are compared.
        size: Height and width of the images.
    """

    train: int
    validation: int
    test: int
    classes: int
    features: int
    reading: float
    crops: int = 1
    size: Size = (224, 224)

    @property
    def images(self) -> int:
        """Images of all splits."""
        return self.train + self.validation + self.test


@dataclass(frozen=True)
class Plan:
    """What a job will do.

    Attributes:
        overrides: What it sets in addition to what the user set.
        settings: The settings with it.
        seconds: Expected seconds per phase, for all its repetitions together.
        dropped: Better candidates that do not fit into the time limit, and the seconds that each needs.
        limit: Seconds that the job may take from `made` on; None: any.
        made: When it was made, in seconds of `time.monotonic`.
    """

    overrides: dict[str, Any]
    settings: Settings
    seconds: dict[str, float]
    dropped: tuple[tuple[Settings, float], ...] = ()
    limit: float | None = None
    made: float = field(default_factory=time.monotonic)

    @property
    def total(self) -> float:
        """Expected seconds."""
        return sum(self.seconds.values())

    @property
    def training_ends(self) -> float | None:
        """When training must end so that the rest fits into the limit, in seconds of `time.monotonic`; None: no limit."""
        if self.limit is None:
            return None
        return self.made + self.limit - sum(self.seconds.get(name, 0.0) for name in AFTER)

    def decision(self) -> Decision:
        """What the time limit has decided."""
        assert self.limit is not None
        left = duration(max(0.0, self.limit))
        reason = f"expected {duration(self.total)}, with {left} left of the time limit after the images were read"
        if self.dropped:
            settings, seconds = self.dropped[-1]
            reason += f"; {describe(settings)} would take {duration(seconds)}"
        return Decision("plan", describe(self.settings), reason)

    def to_text(self, now: float | None = None) -> str:
        """One line.

        Args:
            now: Seconds since the epoch; None: the present.
        """
        end = time.strftime("%H:%M", time.localtime((time.time() if now is None else now) + self.total))
        before = sum(value for name, value in self.seconds.items() if name not in TRAINING + AFTER)
        parts = [f"linear probe about {duration(before)}"]
        if self.settings.epochs:
            training = sum(self.seconds.get(name, 0.0) for name in TRAINING)
            parts.append(f"then {describe(self.settings)}, about {duration(training)}")
        parts.append(f"test and export about {duration(sum(self.seconds.get(name, 0.0) for name in AFTER))}")
        preset = "" if self.limit is None else f", preset {self.settings.preset}"
        text = f"Plan{preset}: {'; '.join(parts)}. Ends at about {end}."
        if self.limit is not None and self.total > self.limit:
            text += f" That is more than the time limit leaves: {duration(max(0.0, self.limit))}."
        elif self.dropped:
            settings, seconds = self.dropped[-1]
            text += f" The time limit is too short for {describe(settings)}: about {duration(seconds)} in all."
        return text


def make_plan(
    candidates: Sequence[tuple[dict[str, Any], Settings]], counts: Counts, speed: Speed, limit: float | None = None
) -> Plan:
    """The first candidate that fits into the limit; the last one where none does.

    Args:
        candidates: Overrides, the best first, each with the settings that they lead to.
        counts: How much work there is.
        speed: Of this machine.
        limit: Seconds from now on; None: any.
    """
    differing = {replace(settings, preset=DEFAULT): (overrides, settings) for overrides, settings in candidates}
    found = [
        Plan(overrides, settings, predict(settings, counts, speed), limit=limit)
        for overrides, settings in differing.values()
    ]
    fits = [limit is None or plan.total <= MARGIN * limit for plan in found]
    chosen = fits.index(True) if any(fits) else len(found) - 1
    dropped = tuple((plan.settings, plan.total) for plan in found[:chosen] if math.isfinite(plan.total))
    return replace(found[chosen], dropped=dropped)


def predict(settings: Settings, counts: Counts, speed: Speed) -> dict[str, float]:
    """Phase -> seconds, for the phases after the images are read once, as if only they were in the cache."""
    step = speed.steps.get(settings.train)
    frozen = speed.features * (step.frozen if step else 1)  # per image, up to the cached features
    rest = speed.exact * (1 - step.frozen if step else 0)  # and from there on
    copies = settings.augmented_copies - 1 if caches_copies(settings) else 0
    probed = 1 + copies if settings.light else 1
    fitting = probed * counts.train * (rest + PROBE * counts.features * counts.classes)
    of_crop = {
        "Features of train": speed.build + counts.train * (frozen + rest),
        "Features of validation": counts.validation * (frozen + rest),
        "Features of train, flipped": _flipped(settings, counts) * (frozen + rest),
        "Reading larger images": counts.reading * (counts.train if copies else 0),
        "Features of augmented copies": copies * counts.train * (frozen + speed.augmentation),
        "Fitting the head": fitting,
    }
    seconds = {name: counts.crops * value for name, value in of_crop.items()}
    seconds["Reading images"] = (counts.crops - 1) * counts.reading * counts.images
    if step:
        seconds |= _training(settings, counts, speed, rest)
    seconds["Fitting the head again"] = 2 * fitting if step else fitting
    size_after = choose_size(settings, counts.size)
    area = math.prod(size_after) / math.prod(counts.size)
    seconds["Testing"] = speed.build + counts.test * speed.exact * area
    if size_after != counts.size:
        seconds[READING] = counts.images * counts.reading
        seconds["Features after training"] += speed.build + (counts.train + counts.validation) * speed.features * area
        seconds["Fitting the head again"] += fitting
    seconds["Exporting and verifying"] = EXPORT * speed.trace
    return {name: value for name, value in seconds.items() if value}


def _flipped(settings, counts):
    """How many flipped images have their features computed, to judge flips or to train on them."""
    plain = settings.light and not settings.augments and settings.epochs
    if settings.horizontal_flip is False or not (settings.augments or plain):
        return 0
    judged = counts.validation if settings.horizontal_flip is None else 0
    return judged + (counts.train if plain else 0)


def _training(settings, counts, speed, rest):
    step, folded = speed.steps[settings.train], decides_by_folds(settings, counts.train, counts.validation)
    learned = counts.train + counts.validation if folded else counts.train
    judged = learned if folded else counts.validation
    batches = math.ceil(learned / settings.batch_size)
    of_step = learned / batches * (step.image + (speed.augmentation if settings.trains_on_images else 0))
    validation = counts.validation * (speed.exact if settings.trains_on_images else rest)
    steps, start = settings.epochs * batches, COMPILE * step.build
    training = {"Fine-tuning": start + steps * of_step + settings.epochs * validation}
    if settings.trains_on_images:
        after = speed.build + (counts.train + counts.validation) * speed.features
        return {"Reading larger images": counts.train * counts.reading, **training, "Features after training": after}
    if settings.learning_rate is not None and not folded:
        return training
    rates = len(RATES) if settings.learning_rate is None else 1
    made = FOLDS * steps if folded else min(MOST_STEPS, steps)
    race = rates * (start + made * of_step + len(COEFFICIENTS) * judged * rest)
    return {"Choosing the learning rate": race, **training}


def describe(settings: Settings) -> str:
    """What is trained, for people."""
    if not settings.epochs:
        return "the linear probe alone"
    what = {"all": "the whole network", "last": "the last stage"}.get(
        settings.train, f"{settings.train} and later stages"
    )
    copies = f" on {settings.augmented_copies} copies of each image" if caches_copies(settings) else ""
    return f"{what}, {settings.epochs} epochs{copies}"


def duration(seconds: float) -> str:
    """Seconds for people: 40 s, 4 min, 1.5 h."""
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
