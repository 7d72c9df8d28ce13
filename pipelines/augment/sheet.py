"""A picture of what the network sees, for people to judge whether it still shows the class."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from pipelines.augment.presets import Augmentation
from pipelines.augment.views import augment

GAP = 4  # pixels
WHITE = 255


def contact_sheet(images, size, augmentation: Augmentation, seed: int = 0, views: int = 7) -> np.ndarray:
    """A row for each image: as it is, and as it comes in the first epochs, each image mixed with the one above it.

    Args:
        images: `(examples, *augmentation.stored_size(size), 3)`, uint8.
        size: Height and width of a view.
        augmentation: As in training.
        seed: As in training.
        views: Number of epochs.

    Returns:
        An image `(height, width, 3)`, uint8: `examples` rows of `views` + 1 pictures, with white between them.
    """
    positions, targets = tf.range(len(images), dtype=tf.int64), tf.zeros((len(images), 1))
    columns = [augment(tf.constant(images), targets, size, Augmentation(), seed, 0, positions)[0]]
    columns += [
        augment(tf.constant(images), targets, size, augmentation, seed, epoch, positions)[0] for epoch in range(views)
    ]
    cells = np.pad(
        np.round(columns).astype("uint8"), [(0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)], constant_values=WHITE
    )
    return np.concatenate(np.concatenate(cells, axis=2), axis=0)[:-GAP, :-GAP]
