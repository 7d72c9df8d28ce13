"""Augments a batch of images, as the network sees it in one epoch."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from pipelines.augment import colour, erasing, geometry, policies
from pipelines.augment.draws import Draws
from pipelines.augment.mixing import mix
from pipelines.augment.presets import Augmentation


def augment_batch(
    images: Any,
    targets: Any,
    size: tuple[int, int],
    augmentation: Augmentation,
    seed: int,
    epoch: int | tf.Tensor,
    indices: Any,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Augmented images and their targets: a pure function of the arguments.

    An image becomes the same whatever else is in the batch, unless images are mixed.

    Args:
        images: `(batch, *augmentation.stored_size(size), 3)`, uint8.
        targets: `(batch, classes)`, float32.
        size: Height and width of the result.
        augmentation: What is done.
        seed: An integer.
        epoch: An integer, may be a tensor.
        indices: `(batch,)` integers: the index of each example in the epoch.

    Returns:
        Images `(batch, *size, 3)`, float32, 0..255, and targets of the same shape as given.
    """
    if augmentation == Augmentation():
        return _resize(images, size), targets
    base = tf.random.fold_in(tf.constant([seed, 0], tf.int64), epoch)
    seeds = tf.map_fn(lambda index: tf.random.fold_in(base, index), indices, fn_output_signature=tf.int64)
    images = tf.map_fn(
        lambda image_and_seed: augment_image(image_and_seed[0], image_and_seed[1], size, augmentation),
        (images, seeds),
        fn_output_signature=tf.TensorSpec((*size, 3), tf.float32),
    )
    if augmentation.mixup or augmentation.cutmix:
        images, targets = mix(images, targets, augmentation.mixup, augmentation.cutmix, seeds)
    return images, targets


def augment_image(image: tf.Tensor, seed: tf.Tensor, size: tuple[int, int], augmentation: Augmentation) -> tf.Tensor:
    """One augmented image, float32 `(*size, 3)`, 0..255, from a uint8 image. Images are not mixed here."""
    draws = Draws(seed)
    if augmentation.min_crop_area < 1:
        image = geometry.crop(image, augmentation.min_crop_area, draws)
    if augmentation.horizontal_flip:
        image = geometry.flip(image, 1, draws)
    if augmentation.vertical_flip:
        image = geometry.flip(image, 0, draws)
    image = _resize(image, size)
    if augmentation.rotation:
        image = geometry.rotate(image, draws.uniform_around(0.0, augmentation.rotation))
    if augmentation.brightness or augmentation.contrast or augmentation.saturation or augmentation.hue:
        image = colour.jitter(image, augmentation, draws)
    if augmentation.trivial_augment:
        image = policies.trivial_augment(image, augmentation.trivial_augment, draws)
    if augmentation.rand_augment:
        image = policies.rand_augment(image, augmentation.rand_augment, augmentation.num_ops, draws)
    if augmentation.erasing:
        image = erasing.erase(image, augmentation.erasing, draws)
    return image


def _resize(images: Any, size: tuple[int, int]) -> tf.Tensor:
    # A crop is at most a seventh larger than the result: anti-aliasing changes little, and takes three times as long.
    return tf.cast(tf.image.resize(images, size, "bilinear"), tf.float32)
