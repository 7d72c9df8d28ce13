"""The same picture in one split: a test image that was trained on measures nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from pipelines.catalog import Catalog
from pipelines.catalog.splits import SPLITS, relative_to

LARGEST = 1 / 3  # of a class; larger sets would leave it without one of the splits


def held_together(catalog: Catalog, likeness) -> Catalog:
    """The same catalog with a group for each set of pictures that are the same or nearly, so that no split is drawn through it.

    The group is called like the first file of the set, which therefore stays in its own split when copies of it arrive.
    Files without a split go where others of their set are already (to train, else to validation, else to test), such as
    copies that were added to the table of an earlier job. Groups and official splits of the source stay as they are; a file
    without a group joins one. Sets of more than a third of a class are left alone.

    Args:
        catalog: A catalog before `Catalog.split`.
        likeness: `Likeness` of its pictures.
    """
    groups, relative = list(catalog.groups), relative_to(catalog.root)
    sizes = _sizes(catalog, catalog.included())
    for rows in likeness.sets:
        for there, joining in _by_split(catalog, rows):
            free = [row for row in there + joining if not groups[row]]
            known = [groups[row] for row in there if groups[row]]
            members = _sizes(catalog, free)
            if len(free) + len(known) > 1 and all(count <= LARGEST * sizes[name] for name, count in members.items()):
                name = min(known or [relative(catalog.paths[row]) for row in free])
                for row in free:
                    groups[row] = name
    return replace(catalog, groups=tuple(groups))


def _by_split(catalog, rows):
    """The rows of each split that a set is in, and with the first of them those that have none yet and join it."""
    there = [[row for row in rows if catalog.splits[row] == split] for split in (*SPLITS, "")]
    drawn, undrawn = [found for found in there[:-1] if found], there[-1]
    return [(drawn[0], undrawn), *((found, []) for found in drawn[1:])] if drawn else [(undrawn, [])]


def _sizes(catalog, rows):
    """How many of these rows each class has."""
    return Counter(name for row in rows for name in catalog.classes_of(row))
