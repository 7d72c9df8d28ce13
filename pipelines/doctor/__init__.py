"""Finds problems of a data set before a network is trained on it."""

from pipelines.doctor.duplicate_groups import group_duplicates
from pipelines.doctor.findings import Finding, cross_split_test_images, examine
from pipelines.doctor.near_duplicates import Duplicates, find_duplicates
from pipelines.doctor.reading import Images, read

__all__ = [
    "Duplicates",
    "Finding",
    "Images",
    "cross_split_test_images",
    "examine",
    "find_duplicates",
    "group_duplicates",
    "read",
]
