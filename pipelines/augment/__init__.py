"""Random views of training pictures: which (`settings`), how (`views` and what it calls), and what they look like."""

from pipelines.augment.flip_check import Mirroring, cross_validated, mirroring
from pipelines.augment.presets import PRESETS, Augmentation, preset
from pipelines.augment.sheet import contact_sheet
from pipelines.augment.views import augment

__all__ = ["PRESETS", "Augmentation", "Mirroring", "augment", "contact_sheet", "cross_validated", "mirroring", "preset"]
