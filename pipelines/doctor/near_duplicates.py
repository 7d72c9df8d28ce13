"""Finds duplicates and near-duplicates.

Two files are exact duplicates if their bytes are equal (by a fingerprint of 63 bits). Two images are near-duplicates if their
mean colours in 8 x 8 parts correlate by 0.97 or more. Each colour channel is compared without its own mean, so a tint that
many images share, such as that of a stain or of the sky, makes none of them near-duplicates. Images that differ in brightness,
contrast, size or JPEG quality correlate more than that, and so do two photos of a burst; two photos of one thing from different
positions correlate less.

`benchmarks/doctor.py` measures how many modified copies of images are found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from pipelines.doctor.reading import Images

MIN_CORRELATION = 0.97
MIN_DEVIATION = 6.0  # grey levels; thumbnails that vary less are mostly noise
DIMENSIONS = 12
# The time of the search grows with the square of the number of images: minutes for this many.
MAX_IMAGES = 150_000
# Pairs to compare. More of them, as in films or among line drawings, mean that the comparison does not separate the images.
MAX_PAIRS = 20_000_000
BLOCK = 1_000_000
SAMPLE = 1_000  # images, from which the number of pairs is estimated


@dataclass(frozen=True)
class Duplicates:
    """Sets of duplicates; images are given by their indices in a catalog.

    Attributes:
        exact: Sets of images whose files are equal.
        near: Sets of near-duplicates, which may include exact ones; each has at least two different files. An image belongs to
            a set if it is a near-duplicate of any image in it.
        searched_near: Whether near-duplicates were searched: not among more than 150,000 images, nor if too many are alike.
    """

    exact: tuple[np.ndarray, ...]
    near: tuple[np.ndarray, ...]
    searched_near: bool

    @property
    def sets(self) -> tuple[np.ndarray, ...]:
        """All sets, without exact ones that are part of a set in `near`."""
        covered = {index for indices in self.near for index in indices}
        return (*self.near, *(indices for indices in self.exact if indices[0] not in covered))


def find_duplicates(images: Images) -> Duplicates:
    """Compare all images with each other.

    Args:
        images: From `pipelines.doctor.read`.
    """
    readable = np.flatnonzero(images.records["readable"])
    records, catalog_indices = images.records[readable], images.catalog_indices[readable]
    # Of equal files only the first one is compared with others.
    _, first, file_number = np.unique(records["fingerprint"], return_index=True, return_inverse=True)
    pairs = near_pairs(records["thumbnail"][first])
    searched_near = pairs is not None
    pairs = np.zeros((0, 2), int) if pairs is None else pairs
    set_number = _connected_components(len(first), pairs)[file_number]
    exact = [members for members in _members(file_number) if len(members) > 1]
    near = [members for members in _members(set_number) if len(np.unique(file_number[members])) > 1]
    return Duplicates(
        tuple(catalog_indices[members] for members in exact),
        tuple(catalog_indices[members] for members in near),
        searched_near,
    )


def near_pairs(thumbnails: np.ndarray) -> np.ndarray | None:
    """Pairs of near-duplicates as indices, `(pairs, 2)`; None if there are too many images or pairs to compare.

    Args:
        thumbnails: `(images, height, width, 3)`, mean colours.
    """
    values = thumbnails.astype("float32")
    values -= values.mean((1, 2), keepdims=True)
    values = values.reshape(len(values), math.prod(values.shape[1:]))
    textured = np.flatnonzero(values.std(1) >= MIN_DEVIATION)
    values = values[textured] / np.linalg.norm(values[textured], axis=1, keepdims=True)
    if len(textured) > MAX_IMAGES:
        return None
    if len(textured) < 2:
        return np.zeros((0, 2), int)
    # The distance of unit vectors follows from their correlation. A projection makes no distance longer, so no pair is missed.
    max_distance = np.sqrt(2 - 2 * MIN_CORRELATION)
    axes = np.linalg.eigh(values.T @ values)[1][:, -DIMENSIONS:]
    tree = cKDTree(values @ axes)
    sample = tree.data[:: math.ceil(len(textured) / SAMPLE)]
    neighbours = tree.query_ball_point(sample, max_distance, return_length=True).mean()
    if neighbours * len(textured) > 2 * MAX_PAIRS + len(textured):
        return None
    pairs = tree.query_pairs(max_distance, output_type="ndarray")
    blocks = np.split(pairs, range(BLOCK, len(pairs), BLOCK))
    is_near = [np.einsum("ij,ij->i", values[block[:, 0]], values[block[:, 1]]) >= MIN_CORRELATION for block in blocks]
    return textured[pairs[np.concatenate(is_near)]]


def _connected_components(count: int, pairs: np.ndarray) -> np.ndarray:
    """For each of `count` files the number of the set that the pairs connect it to."""
    edges = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (count, count))
    return connected_components(edges, directed=False)[1]


def _members(numbers: np.ndarray) -> list[np.ndarray]:
    """The indices of each number, one array per number."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
