"""MixUp and CutMix: the images of a batch are mixed in pairs, and their labels in the same proportion."""

from __future__ import annotations

import tensorflow as tf


def mix(
    images: tf.Tensor, targets: tf.Tensor, mixup: float, cutmix: float, seeds: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mix each image and its target with the one before it in the batch (the first with the last).

    Both methods are one formula, W x + (1 - W) x'. In MixUp W is one number per image, from Beta(`mixup`, `mixup`). In
    CutMix W is 0 inside a rectangle and 1 outside. The rectangle's share of the area comes from Beta(`cutmix`, `cutmix`);
    the border of the image may cut off a part of it. Targets are mixed by the mean of W: exactly the share of the pixels.

    Args:
        images: `(batch, h, w, c)`, float.
        targets: `(batch, classes)`, float.
        mixup: Alpha of MixUp; 0: only CutMix.
        cutmix: Alpha of CutMix; 0: only MixUp.
        seeds: `(batch, 2)`, integers.

    Returns:
        Images and targets of the same shapes.
    """
    height, width = images.shape[1:3]
    draws = tf.map_fn(lambda seed: _draws(seed, mixup, cutmix), seeds, fn_output_signature=tf.float32)
    choice, x, y, share_by_mixup, share_by_cutmix = tf.unstack(draws, axis=1)
    cut = choice < (0.5 if mixup and cutmix else float(cutmix > 0))
    share = tf.where(cut, share_by_cutmix, share_by_mixup)  # of the image that comes from `images` itself
    side = tf.sqrt(1.0 - share)
    outside = ~(_inside(y, side, height)[:, :, None] & _inside(x, side, width)[:, None, :])
    weights = tf.where(cut[:, None, None], tf.cast(outside, tf.float32), share[:, None, None])
    share = tf.where(cut, tf.reduce_mean(weights, (1, 2)), share)  # less is cut where the border cuts the rectangle off
    weights, share = weights[..., None], share[:, None]
    return (
        weights * images + (1.0 - weights) * tf.roll(images, 1, 0),
        share * targets + (1.0 - share) * tf.roll(targets, 1, 0),
    )


def _draws(seed: tf.Tensor, mixup: float, cutmix: float) -> tf.Tensor:
    """Three numbers from 0 to 1, one from Beta(`mixup`, `mixup`) and one from Beta(`cutmix`, `cutmix`)."""
    seed = tf.random.fold_in(seed, 1)  # the seed itself gives the numbers of `Draws`
    uniform = tf.random.stateless_uniform([3], seed)
    # The share of one Gamma variable in the sum of two is a Beta variable.
    gamma = tf.random.stateless_gamma([2, 2], tf.random.fold_in(seed, 1), [mixup or 1.0, cutmix or 1.0])
    return tf.concat([uniform, gamma[0] / tf.maximum(gamma[0] + gamma[1], 1e-30)], 0)


def _inside(centre: tf.Tensor, side: tf.Tensor, length: int) -> tf.Tensor:
    """`(batch, length)`: which pixels are within half of `side` of `centre`, both as shares of the length."""
    first = tf.round((centre - side / 2) * length)[:, None]
    pixels = tf.range(length, dtype=tf.float32)
    return (pixels >= first) & (pixels < tf.round((centre + side / 2) * length)[:, None])
