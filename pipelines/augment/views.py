"""The random views of a batch: what the network sees of its pictures in one epoch."""

from __future__ import annotations

import tensorflow as tf

from pipelines.augment import colour, erasing, geometry, policies
from pipelines.augment.draws import Draws
from pipelines.augment.mixing import mix
from pipelines.augment.presets import Augmentation


def augment(images, targets, size, augmentation: Augmentation, seed: int, epoch, positions):
    """The views of some examples in one epoch: a pure function of the arguments, whatever the batch (but for mixing).

    Args:
        images: `(batch, *augmentation.stored_size(size), 3)`, uint8.
        targets: `(batch, classes)`, float32.
        size: Height and width of the views.
        augmentation: `Augmentation`.
        seed: An integer.
        epoch: An integer, may be a tensor.
        positions: `(batch,)` integers: the place of each example in the epoch.

    Returns:
        Images `(batch, *size, 3)`, float32, 0..255, and targets of the same shape.
    """
    if augmentation == Augmentation():
        return _resized(images, size), targets
    base = tf.random.fold_in(tf.constant([seed, 0], tf.int64), epoch)
    seeds = tf.map_fn(lambda position: tf.random.fold_in(base, position), positions, fn_output_signature=tf.int64)
    images = tf.map_fn(
        lambda pair: view(*pair, size, augmentation),
        (images, seeds),
        fn_output_signature=tf.TensorSpec((*size, 3), tf.float32),
    )
    if augmentation.mixup or augmentation.cutmix:
        images, targets = mix(images, targets, augmentation.mixup, augmentation.cutmix, seeds)
    return images, targets


def view(image, seed, size, augmentation: Augmentation):
    """One random view: float32 `(*size, 3)`, 0..255, of a uint8 image."""
    draws = Draws(seed)
    if augmentation.smallest_crop < 1:
        image = geometry.crop(image, augmentation.smallest_crop, draws)
    if augmentation.mirror:
        image = geometry.flip(image, 1, draws)
    if augmentation.upside_down:
        image = geometry.flip(image, 0, draws)
    image = _resized(image, size)
    if augmentation.rotation:
        image = geometry.rotate(image, draws.around(0.0, augmentation.rotation))
    if augmentation.brightness or augmentation.contrast or augmentation.saturation or augmentation.hue:
        image = colour.jitter(image, augmentation, draws)
    if augmentation.trivial_augment:
        image = policies.trivial_augment(image, augmentation.trivial_augment, draws)
    if augmentation.rand_augment:
        image = policies.rand_augment(image, augmentation.rand_augment, augmentation.operations, draws)
    if augmentation.erasing:
        image = erasing.erase(image, augmentation.erasing, draws)
    return image


def _resized(images, size):
    # A crop is at most a seventh larger than the view: nothing to smooth away, and smoothing takes three times as long.
    return tf.cast(tf.image.resize(images, size, "bilinear"), tf.float32)
