"""An image of augmented training images, so that people can check that the classes are still recognizable."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from pipelines.augment.batch_augmentation import augment_batch
from pipelines.augment.presets import Augmentation

GAP = 4  # pixels
WHITE = 255


def augmentation_preview(
    images: np.ndarray, size: tuple[int, int], augmentation: Augmentation, seed: int = 0, epochs: int = 7
) -> np.ndarray:
    """One row per image: the image itself, then the augmented image of each of the first epochs.

    MixUp and CutMix mix each image with the one above it.

    Args:
        images: `(examples, *augmentation.stored_size(size), 3)`, uint8.
        size: Height and width of the network's input.
        augmentation: As in training.
        seed: As in training.
        epochs: Number of epochs to show.

    Returns:
        An image `(height, width, 3)`, uint8: `examples` rows of `epochs` + 1 images, with white between them.
    """
    indices, targets = tf.range(len(images), dtype=tf.int64), tf.zeros((len(images), 1))
    images = tf.constant(images)
    columns = [augment_batch(images, targets, size, Augmentation(), seed, 0, indices)[0]]
    columns += [augment_batch(images, targets, size, augmentation, seed, epoch, indices)[0] for epoch in range(epochs)]
    cells = np.pad(
        np.round(columns).astype("uint8"), [(0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)], constant_values=WHITE
    )
    return np.concatenate(np.concatenate(cells, axis=2), axis=0)[:-GAP, :-GAP]
