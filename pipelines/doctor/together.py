"""The same picture in one split: a test image that was trained on measures nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from pipelines.catalog import Catalog
from pipelines.catalog.splits import relative_to

LARGEST = 1 / 3  # of a class; larger sets would leave it without one of the splits


def held_together(catalog: Catalog, likeness) -> Catalog:
    """The same catalog with a group for each set of pictures that are the same or nearly, so that no split is drawn through it.

    The group is called like the first file of the set, which therefore stays in its own split when copies of it arrive.
    Files in groups of the source and sets of more than a third of a class are left as they are; so are official splits.

    Args:
        catalog: A catalog before `Catalog.split`.
        likeness: `Likeness` of its pictures.
    """
    groups, relative = list(catalog.groups), relative_to(catalog.root)
    sizes = _sizes(catalog, catalog.used())
    for rows in likeness.sets:
        for official in {catalog.splits[row] for row in rows}:
            held = [row for row in rows if catalog.splits[row] == official and not groups[row]]
            members = _sizes(catalog, held)
            if len(held) > 1 and all(count <= LARGEST * sizes[name] for name, count in members.items()):
                name = min(relative(catalog.paths[row]) for row in held)
                for row in held:
                    groups[row] = name
    return replace(catalog, groups=tuple(groups))


def _sizes(catalog, rows):
    """How many of these rows each class has."""
    return Counter(name for row in rows for name in catalog.names(row))
