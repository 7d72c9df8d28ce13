"""Random augmentation of training images: what (`presets`), how (`batch_augmentation`), and what it looks like (`preview`)."""

from pipelines.augment.batch_augmentation import augment_batch
from pipelines.augment.flip_check import FlipCheck, check_flips, check_flips_by_cross_validation
from pipelines.augment.presets import PRESETS, Augmentation, preset
from pipelines.augment.preview import augmentation_preview

__all__ = [
    "PRESETS",
    "Augmentation",
    "FlipCheck",
    "augment_batch",
    "augmentation_preview",
    "check_flips",
    "check_flips_by_cross_validation",
    "preset",
]
