"""How images are augmented in training: one record of all options, and presets by name."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

from keras_cnn import arguments

# Random crops are cut from images that are larger than the network's input by this factor.
MARGIN = 8 / 7


@dataclass(frozen=True)
class Augmentation:
    """What is done to a training image, in the order of the arguments. By default nothing is done.

    Args:
        min_crop_area: Share of the area, more than 0 and at most 1: the image is cropped at random to at least this share.
            The ratio of the sides changes by a factor of 3/4 to 4/3 (Szegedy et al., 2014, arXiv:1409.4842, section 6).
            1: no crop.
        horizontal_flip: Whether half of the images, at random, are flipped left to right.
        vertical_flip: Whether half of the images, at random, are flipped upside down, for photos from above.
        rotation: Degrees, 0 to 180: images are rotated by a random angle of at most this, either way. The corners are
            filled by reflection.
        brightness: Share, 0 to 1: values are multiplied by a factor from 1 - share to 1 + share.
        contrast: Share, 0 to 1: the same for the distance of each pixel from the mean grey of the image.
        saturation: Share, 0 to 1: the same for the distance of each pixel from its own grey.
        hue: Degrees, 0 to 180: colours are rotated about the grey axis by at most this angle.
        trivial_augment: Share, 0 to 1, of the "wide" ranges of TrivialAugment, where 1 is the paper's: one of 14
            operations, with a random magnitude (Müller and Hutter, 2021, arXiv:2103.10158).
        rand_augment: Share, 0 to 1, of the ranges of RandAugment, where 0.3 is magnitude 9 of 30: `num_ops` of the same 14
            operations, one after another (Cubuk et al., 2019, arXiv:1909.13719).
        num_ops: Number of operations of RandAugment, 1 to 10.
        erasing: Probability that a rectangle of 2 % to 40 % of the area is replaced by noise (Zhong et al., 2017,
            arXiv:1708.04896).
        mixup: Alpha of MixUp: an image and its label are blended with another image of the batch, in a proportion from
            Beta(alpha, alpha) (Zhang et al., 2017, arXiv:1710.09412). 0: no MixUp.
        cutmix: Alpha of CutMix: a rectangle comes from another image of the batch, and the same share of the label (Yun et
            al., 2019, arXiv:1905.04899). 0: no CutMix. With `mixup` also on, each image gets one of the two at random.

    Raises:
        ValueError: If a number is out of its range.
    """

    min_crop_area: float = 1.0
    horizontal_flip: bool = False
    vertical_flip: bool = False
    rotation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    trivial_augment: float = 0.0
    rand_augment: float = 0.0
    num_ops: int = 2
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.min_crop_area <= 1:
            raise ValueError(
                arguments.message("Augmentation", "min_crop_area", "more than 0 and at most 1", self.min_crop_area)
            )
        for name, largest in LARGEST.items():
            if not 0 <= getattr(self, name) <= largest:
                raise ValueError(arguments.message("Augmentation", name, f"from 0 to {largest:g}", getattr(self, name)))
        arguments.one_of("Augmentation", "num_ops", self.num_ops, range(1, 11))

    def scaled(self, strength: float) -> Augmentation:
        """The same with every amount multiplied by `strength`, within its range: at 0 nothing is done.

        The smallest crop is raised to that power: twice the strength is a crop of a crop.
        """
        amounts = {name: min(getattr(self, name) * strength, largest) for name, largest in LARGEST.items()}
        flips = {name: getattr(self, name) and strength > 0 for name in ("horizontal_flip", "vertical_flip")}
        return replace(self, **amounts, **flips, min_crop_area=self.min_crop_area**strength)

    def stored_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the images to augment, for a network input of `size`: random crops need larger images."""
        height, width = size
        if self.min_crop_area == 1:
            return height, width
        return math.ceil(height * MARGIN), math.ceil(width * MARGIN)

    def to_dict(self) -> dict:
        """The arguments as plain values, for JSON; `Augmentation(**dictionary)` gives the same record again."""
        return asdict(self)


LARGEST = {
    **dict.fromkeys(("rotation", "hue"), 180),
    **dict.fromkeys(("brightness", "contrast", "saturation", "trivial_augment", "rand_augment", "erasing"), 1),
    **dict.fromkeys(("mixup", "cutmix"), math.inf),
}
LIGHT = Augmentation(min_crop_area=0.35, horizontal_flip=True, brightness=0.2, contrast=0.2, saturation=0.2)
PRESETS = {
    "none": Augmentation(),
    "light": LIGHT,
    "medium": replace(LIGHT, trivial_augment=1.0),
    "strong": replace(LIGHT, min_crop_area=0.2, trivial_augment=1.0, erasing=0.25, mixup=0.2, cutmix=1.0),
}


def preset(name: str, strength: float = 1.0, horizontal_flip: bool = True) -> Augmentation:
    """The augmentation of a name.

    Args:
        name: "none"; "light", with crops, flips and small changes of colour; "medium", with TrivialAugment too; "strong",
            with random erasing, MixUp and CutMix too.
        strength: As in `Augmentation.scaled`.
        horizontal_flip: False if left and right matter: text, digits, traffic signs.

    Raises:
        ValueError: If there is no such preset.
    """
    arguments.one_of("preset", "name", name, tuple(PRESETS))
    augmentation = PRESETS[name].scaled(strength)
    return replace(augmentation, horizontal_flip=augmentation.horizontal_flip and horizontal_flip)
