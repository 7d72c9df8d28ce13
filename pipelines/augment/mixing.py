"""MixUp and CutMix: pictures of a batch in pairs, with labels in the same proportion."""

from __future__ import annotations

import tensorflow as tf


def mix(images, targets, mixup, cutmix, seeds):
    """Mix each image and its target with those of the one before it in the batch (the first with the last).

    Both methods are one formula, W x + (1 - W) x': in MixUp W is one number an image, from Beta(`mixup`, `mixup`); in
    CutMix it is 0 in a rectangle and 1 outside, and the rectangle, where it is not cut off by the border, has a share of
    the area from Beta(`cutmix`, `cutmix`). Targets are mixed by the mean of W: exactly the share of the pixels.

    Args:
        images: `(batch, h, w, c)`, float.
        targets: `(batch, classes)`, float.
        mixup: Alpha of MixUp; 0: CutMix only.
        cutmix: Alpha of CutMix; 0: MixUp only.
        seeds: `(batch, 2)`, integers.

    Returns:
        Images and targets of the same shapes.
    """
    height, width = images.shape[1:3]
    draws = tf.map_fn(lambda seed: _draws(seed, mixup, cutmix), seeds, fn_output_signature=tf.float32)
    toss, x, y, kept_by_mixup, kept_by_cutmix = tf.unstack(draws, axis=1)
    cut = toss < (0.5 if mixup and cutmix else float(cutmix > 0))
    kept = tf.where(cut, kept_by_cutmix, kept_by_mixup)
    side = tf.sqrt(1.0 - kept)
    outside = ~(_inside(y, side, height)[:, :, None] & _inside(x, side, width)[:, None, :])
    weights = tf.where(cut[:, None, None], tf.cast(outside, tf.float32), kept[:, None, None])
    share = tf.where(cut, tf.reduce_mean(weights, (1, 2)), kept)
    weights, share = weights[..., None], share[:, None]
    return (
        weights * images + (1.0 - weights) * tf.roll(images, 1, 0),
        share * targets + (1.0 - share) * tf.roll(targets, 1, 0),
    )


def _draws(seed, mixup, cutmix):
    """Three numbers from 0 to 1, one from Beta(`mixup`, `mixup`) and one from Beta(`cutmix`, `cutmix`)."""
    seed = tf.random.fold_in(seed, 1)  # the seed itself has given the numbers of the view
    uniform = tf.random.stateless_uniform([3], seed)
    # A share of one Gamma variable in the sum of two is a Beta variable.
    gamma = tf.random.stateless_gamma([2, 2], tf.random.fold_in(seed, 1), [mixup or 1.0, cutmix or 1.0])
    return tf.concat([uniform, gamma[0] / tf.maximum(gamma[0] + gamma[1], 1e-30)], 0)


def _inside(centre, side, length):
    """`(batch, length)`: which places lie within half of `side` of `centre`, both as shares of the length."""
    first = tf.round((centre - side / 2) * length)[:, None]
    places = tf.range(length, dtype=tf.float32)
    return (places >= first) & (places < tf.round((centre + side / 2) * length)[:, None])
