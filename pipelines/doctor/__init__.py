"""What is wrong with a data set, found before a network is trained on it."""

from pipelines.doctor.duplicate_groups import held_together
from pipelines.doctor.findings import Finding, examine, leaked
from pipelines.doctor.near_duplicates import Likeness, likeness
from pipelines.doctor.reading import Images, read

__all__ = ["Finding", "Images", "Likeness", "examine", "held_together", "leaked", "likeness", "read"]
