"""Which pictures are the same, and which nearly are.

Two files are copies if their bytes are equal (by a fingerprint of 63 bits). Two pictures are nearly the same if their
mean colours in 8 x 8 parts correlate by 0.97 or more, each colour channel less its own mean: a tint that all pictures of
a kind share, such as that of a stain or of the sky, makes none alike. Another brightness, contrast, size or JPEG quality
leaves the correlation above that; two photos of one thing from other places are below it, two of a burst above.

`benchmarks/doctor.py` measures what is found of pictures that were changed in such ways.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

ALIKE = 0.97
FLAT = 6.0  # gray levels, standard deviation: below, what is left is noise
DIMENSIONS = 12
# The time of the search grows with the square of the number of pictures: minutes for so many.
MOST_PICTURES = 150_000
# Pairs to be looked at. Where there are more, as in a film or among line drawings, likeness tells nothing.
MOST_PAIRS = 20_000_000
BLOCK = 1_000_000
SAMPLE = 1_000  # pictures, by which the number of pairs is estimated


@dataclass(frozen=True)
class Likeness:
    """Pictures that are the same, as rows of a catalog.

    Attributes:
        copies: Sets of rows whose files are equal.
        near: Sets of rows whose pictures are nearly the same or the same, each with at least two different files; a picture
            belongs to a set if it is near to one of it.
        compared: Whether near ones were looked for: not among more than 150,000 pictures, nor where too many are alike.
    """

    copies: tuple[np.ndarray, ...]
    near: tuple[np.ndarray, ...]
    compared: bool

    @property
    def sets(self) -> tuple[np.ndarray, ...]:
        """All sets, none of which is part of another."""
        covered = {row for rows in self.near for row in rows}
        return (*self.near, *(rows for rows in self.copies if rows[0] not in covered))


def likeness(images) -> Likeness:
    """Compare all pictures with each other.

    Args:
        images: `pipelines.doctor.Images`.
    """
    readable = np.flatnonzero(images.records["readable"])
    records, rows = images.records[readable], images.rows[readable]
    _, first, kind = np.unique(records["fingerprint"], return_index=True, return_inverse=True)
    # One file of each kind is compared.
    pairs = near_pairs(records["thumbnail"][first])
    compared = pairs is not None
    pairs = np.zeros((0, 2), int) if pairs is None else pairs
    copies = [group for group in _sets(kind) if len(group) > 1]
    near = [group for group in _sets(_connected(len(first), pairs)[kind]) if len(np.unique(kind[group])) > 1]
    return Likeness(tuple(rows[group] for group in copies), tuple(rows[group] for group in near), compared)


def near_pairs(thumbnails: np.ndarray) -> np.ndarray | None:
    """Positions of nearly the same pictures, `(pairs, 2)`; None if pictures or pairs are too many to look at.

    Args:
        thumbnails: `(pictures, height, width, 3)`, mean colours.
    """
    values = thumbnails.astype("float32")
    values -= values.mean((1, 2), keepdims=True)
    values = values.reshape(len(values), math.prod(values.shape[1:]))
    told = np.flatnonzero(values.std(1) >= FLAT)
    values = values[told] / np.linalg.norm(values[told], axis=1, keepdims=True)
    if len(told) > MOST_PICTURES:
        return None
    if len(told) < 2:
        return np.zeros((0, 2), int)
    # Of unit vectors the distance follows from the correlation, and no projection makes it longer: none is missed.
    distance = np.sqrt(2 - 2 * ALIKE)
    axes = np.linalg.eigh(values.T @ values)[1][:, -DIMENSIONS:]
    tree = cKDTree(values @ axes)
    some = tree.data[:: -(-len(told) // SAMPLE)]
    if tree.query_ball_point(some, distance, return_length=True).mean() * len(told) > 2 * MOST_PAIRS + len(told):
        return None
    pairs = tree.query_pairs(distance, output_type="ndarray")
    blocks = np.split(pairs, range(BLOCK, len(pairs), BLOCK))
    close = [np.einsum("ij,ij->i", values[block[:, 0]], values[block[:, 1]]) >= ALIKE for block in blocks]
    return told[pairs[np.concatenate(close)]]


def _connected(count, pairs):
    """For each of `count` things the number of the set that pairs bind it into."""
    edges = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (count, count))
    return connected_components(edges, directed=False)[1]


def _sets(numbers):
    """The positions of each number, one array a number."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
