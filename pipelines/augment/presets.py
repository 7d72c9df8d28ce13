"""How pictures are varied in training: one record, and the presets that are chosen by name."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

from keras_cnn import arguments

# Random crops are cut from pictures that are this much larger than the network's input.
MARGIN = 8 / 7


@dataclass(frozen=True)
class Augmentation:
    """What is done to a training picture, in the order of the arguments. Everything is off at first.

    Args:
        smallest_crop: Share of the area, in (0, 1]: a random part of at least this size, its sides in a proportion of
            3/4 to 4/3 of the picture's, becomes the picture (Szegedy et al., 2014, arXiv:1409.4842, section 6). 1: all.
        mirror: Whether every other picture is mirrored, left for right.
        upside_down: Whether every other picture is turned upside down, as in photos from above.
        rotation: Degrees, 0 to 180: turned by up to this angle, either way; what comes into view is reflected.
        brightness: Share, 0 to 1: multiplied by 1 - share to 1 + share.
        contrast: The same for the distance of each pixel from the mean grey of the picture.
        saturation: The same for the distance of each pixel from its own grey.
        hue: Degrees, 0 to 180: colours are turned by up to this angle about the grey axis.
        trivial_augment: Share, 0 to 1, of the "wide" ranges of TrivialAugment, where 1 is the paper's: one operation out
            of 14, with a random magnitude (Müller and Hutter, 2021, arXiv:2103.10158).
        rand_augment: Share, 0 to 1, of the ranges of RandAugment, where 0.3 is magnitude 9 of 30: `operations` out of
            the same 14, one after another (Cubuk et al., 2019, arXiv:1909.13719).
        operations: How many RandAugment applies, 1 to 10.
        erasing: Probability that noise covers a rectangle of 2 % to 40 % of the area (Zhong et al., 2017, arXiv:1708.04896).
        mixup: Alpha of MixUp: a picture and its label are blended with those of another one of the batch, in a proportion
            from Beta(alpha, alpha) (Zhang et al., 2017, arXiv:1710.09412).
        cutmix: Alpha of CutMix: a rectangle comes from another picture of the batch, and as much of its label (Yun et al.,
            2019, arXiv:1905.04899). Where `mixup` is on too, each picture gets one of the two, by the toss of a coin.

    Raises:
        ValueError: If a number is out of its range.
    """

    smallest_crop: float = 1.0
    mirror: bool = False
    upside_down: bool = False
    rotation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    trivial_augment: float = 0.0
    rand_augment: float = 0.0
    operations: int = 2
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self):
        if not 0 < self.smallest_crop <= 1:
            raise ValueError(
                arguments.message("Augmentation", "smallest_crop", "more than 0 and at most 1", self.smallest_crop)
            )
        for name, largest in LARGEST.items():
            if not 0 <= getattr(self, name) <= largest:
                raise ValueError(arguments.message("Augmentation", name, f"from 0 to {largest:g}", getattr(self, name)))
        arguments.one_of("Augmentation", "operations", self.operations, range(1, 11))

    def scaled(self, strength: float) -> Augmentation:
        """The same with every amount times `strength`, as far as its range goes: at 0 nothing is done.

        The smallest crop is taken to that power: twice the strength, the crop of a crop.
        """
        amounts = {name: min(getattr(self, name) * strength, largest) for name, largest in LARGEST.items()}
        flips = {name: getattr(self, name) and strength > 0 for name in ("mirror", "upside_down")}
        return replace(self, **amounts, **flips, smallest_crop=self.smallest_crop**strength)

    def stored_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the pictures to start from, for views of `size`: random crops want larger ones."""
        return tuple(math.ceil(side * MARGIN) for side in size) if self.smallest_crop < 1 else tuple(size)

    def to_dict(self) -> dict:
        """The arguments as plain values, for JSON; `Augmentation(**record)` gives the same record again."""
        return asdict(self)


LARGEST = {
    **dict.fromkeys(("rotation", "hue"), 180),
    **dict.fromkeys(("brightness", "contrast", "saturation", "trivial_augment", "rand_augment", "erasing"), 1),
    **dict.fromkeys(("mixup", "cutmix"), math.inf),
}
LIGHT = Augmentation(smallest_crop=0.35, mirror=True, brightness=0.2, contrast=0.2, saturation=0.2)
PRESETS = {
    "none": Augmentation(),
    "light": LIGHT,
    "medium": replace(LIGHT, trivial_augment=1.0),
    "strong": replace(LIGHT, smallest_crop=0.2, trivial_augment=1.0, erasing=0.25, mixup=0.2, cutmix=1.0),
}


def preset(name: str, strength: float = 1.0, mirror: bool = True) -> Augmentation:
    """The augmentation of a name.

    Args:
        name: "none"; "light", crops, mirror images and a little colour; "medium", with TrivialAugment; "strong", with
            random erasing, MixUp and CutMix too.
        strength: As in `Augmentation.scaled`.
        mirror: False where left and right matter: text, digits, traffic signs.

    Raises:
        ValueError: If there is no such preset.
    """
    arguments.one_of("preset", "name", name, tuple(PRESETS))
    chosen = PRESETS[name].scaled(strength)
    return replace(chosen, mirror=chosen.mirror and mirror)
