"""Duplicates in one split: accuracy on test images that are also training images means nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from pipelines.catalog import Catalog
from pipelines.catalog.splits import SPLITS, relative_to
from pipelines.doctor.near_duplicates import Duplicates

MAX_SHARE = 1 / 3  # of a class; a larger group would leave the class without an image in one of the splits


def group_duplicates(catalog: Catalog, duplicates: Duplicates) -> Catalog:
    """The same catalog with one group per set of duplicates and near-duplicates, so that each set is drawn into one split.

    The group is named after the first file of the set, so this file stays in its own split when duplicates are added. Files
    without a split go where others of their set are already: to train, else to validation, else to test. An example are
    duplicates that were added to the table of an earlier job. Groups and official splits of the source stay as they are; a
    file without a group joins one. Sets of more than a third of a class are not grouped.

    Args:
        catalog: A catalog before `Catalog.split`.
        duplicates: The duplicates among its images.
    """
    groups, relative = list(catalog.groups), relative_to(catalog.root)
    class_sizes = _class_sizes(catalog, catalog.included())
    for indices in duplicates.sets:
        for in_split, joining in _by_split(catalog, indices):
            ungrouped = [index for index in in_split + joining if not groups[index]]
            known = [groups[index] for index in in_split if groups[index]]
            sizes = _class_sizes(catalog, ungrouped)
            fits = all(size <= MAX_SHARE * class_sizes[name] for name, size in sizes.items())
            if len(ungrouped) + len(known) > 1 and fits:
                name = min(known or [relative(catalog.paths[index]) for index in ungrouped])
                for index in ungrouped:
                    groups[index] = name
    return replace(catalog, groups=tuple(groups))


def _by_split(catalog: Catalog, indices: Iterable[int]) -> list[tuple[list[int], list[int]]]:
    """Pairs of indices: the files of a set in one split, and those without a split, which join the first of these splits."""
    by_split = [[index for index in indices if catalog.splits[index] == split] for split in (*SPLITS, "")]
    assigned, unassigned = [found for found in by_split[:-1] if found], by_split[-1]
    if not assigned:
        return [(unassigned, [])]
    return [(assigned[0], unassigned), *((found, []) for found in assigned[1:])]


def _class_sizes(catalog: Catalog, indices: Iterable[int]) -> Counter[str]:
    """The number of these files per class."""
    return Counter(name for index in indices for name in catalog.classes_of(index))
