"""Augmentation: pixels against Pillow and by hand, nothing at strength 0, labels in the share of the pixels."""

import colorsys
import math
from functools import cache

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from pipelines.augment import (
    PRESETS,
    Augmentation,
    augment_batch,
    augmentation_preview,
    erasing,
    geometry,
    mixing,
    policies,
    preset,
)
from pipelines.augment.colour import hue, jitter
from pipelines.augment.draws import Draws

SIZE = (24, 32)
MANY = 400


@pytest.fixture(scope="module")
def photo():
    """Uint8 `(24, 32, 3)`: gradients and noise, of every brightness."""
    rows, columns = np.mgrid[:24, :32]
    smooth = np.stack([rows * 10, columns * 8, 255 - rows * 5 - columns * 4], -1)
    return np.clip(smooth + np.random.default_rng(0).integers(-30, 30, (24, 32, 3)), 0, 255).astype("uint8")


@cache
def traced(augmentation, seed, count):
    targets = np.eye(count, dtype="float32")
    return tf.function(
        lambda images, epoch, indices: augment_batch(images, targets, SIZE, augmentation, seed, epoch, indices)
    )


def augmented(images, augmentation, seed=0, epoch=0, indices=None):
    """What `augment_batch` returns for images of one class each: images and targets."""
    indices = np.arange(len(images)) if indices is None else np.array(indices)
    run = traced(augmentation, seed, len(images))
    return [result.numpy() for result in run(tf.constant(images), tf.constant(epoch), tf.constant(indices))]


def draw_many(function, signature=tf.float32):
    """The results of a function of `Draws` for many seeds."""
    seeds = tf.stack([tf.zeros(MANY, tf.int64), tf.range(MANY, dtype=tf.int64)], 1)
    run = tf.function(lambda: tf.map_fn(lambda seed: function(Draws(seed)), seeds, fn_output_signature=signature))
    return run().numpy()


@pytest.mark.parametrize("name", PRESETS)
def test_strength_0_changes_nothing(photo, name):
    assert preset(name, 0) == Augmentation()
    images, targets = augmented([photo] * 3, preset(name, 0))
    np.testing.assert_array_equal(images, [photo] * 3)
    np.testing.assert_array_equal(targets, np.eye(3))


def test_strength_scales_every_amount():
    half = Augmentation(min_crop_area=0.25, horizontal_flip=True, rotation=30, hue=10, erasing=0.5, mixup=0.4).scaled(
        0.5
    )
    assert half == Augmentation(min_crop_area=0.5, horizontal_flip=True, rotation=15, hue=5, erasing=0.25, mixup=0.2)
    assert preset("strong", 3).erasing == 0.75 and preset("strong", 5).erasing == 1
    assert preset("light").horizontal_flip and not preset("light", horizontal_flip=False).horizontal_flip
    assert Augmentation(**preset("strong").to_dict()) == preset("strong")


def test_only_crops_need_larger_images():
    assert preset("light").stored_size((224, 100)) == (256, 115)
    assert Augmentation(horizontal_flip=True, rotation=10).stored_size((224, 100)) == (224, 100)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: Augmentation(min_crop_area=0),
            "`min_crop_area` must be more than 0 and at most 1. Received: min_crop_area=0.",
        ),
        (lambda: Augmentation(erasing=1.5), "`erasing` must be from 0 to 1. Received: erasing=1.5."),
        (lambda: Augmentation(rotation=-1), "`rotation` must be from 0 to 180. Received: rotation=-1."),
        (lambda: Augmentation(mixup=math.nan), "`mixup` must be from 0 to inf. Received: mixup=nan."),
        (
            lambda: Augmentation(num_ops=11),
            "`num_ops` must be one of 1, 2, 3, 4, 5, 6, 7, 8, 9, 10. Received: num_ops=11.",
        ),
        (lambda: preset("huge"), "`name` must be one of 'none', 'light', 'medium', 'strong'. Received: name='huge'."),
    ],
)
def test_arguments_out_of_range_are_refused(make, text):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value).endswith(text)


def test_an_augmented_image_is_a_pure_function_of_seed_epoch_and_index(photo):
    light = Augmentation(horizontal_flip=True, rotation=20, brightness=0.5)
    first = augmented([photo] * 3, light)[0]
    np.testing.assert_array_equal(augmented([photo] * 3, light, indices=[2, 9, 0])[0][[0, 2]], first[[2, 0]])
    others = [augmented([photo] * 3, light, seed=1)[0], augmented([photo] * 3, light, epoch=1)[0]]
    everything = np.concatenate([first, *others])
    assert all((a != b).any() for i, a in enumerate(everything) for b in everything[:i])


def test_crops_are_inside_the_image_and_have_the_given_area():
    height, width, smallest = 120, 200, 0.35
    coordinates = np.stack(np.mgrid[:height, :width], -1).astype("int32")

    def corners(draws):
        part = geometry.crop(tf.constant(coordinates), smallest, draws)
        return tf.concat([part[0, 0], part[-1, -1], tf.shape(part)[:2]], 0)

    top, left, bottom, right, rows, columns = draw_many(corners, tf.int32).T
    assert (bottom - top + 1 == rows).all() and (right - left + 1 == columns).all()  # a part, without gaps
    area, stretch = rows * columns / (height * width), (rows / height) / (columns / width)
    assert smallest - 0.01 < area.min() < 0.4 and 0.95 < area.max() <= 1
    assert 0.74 < stretch.min() < 0.8 and 1.25 < stretch.max() < 1.35
    assert area.mean() == pytest.approx((1 + smallest) / 2, abs=4 * (1 - smallest) / math.sqrt(12 * MANY))
    # All positions between the two borders are equally likely.
    for start, room in ((top, height - rows), (left, width - columns)):
        position = (start + 0.5)[room > 20] / (room + 1)[room > 20]
        assert position.mean() == pytest.approx(0.5, abs=4 / math.sqrt(12 * len(position)))
        assert position.min() < 0.05 and position.max() > 0.95


@pytest.mark.parametrize("axis", [0, 1])
def test_half_of_the_images_are_flipped(photo, axis):
    images = augmented([photo] * 100, Augmentation(horizontal_flip=axis == 1, vertical_flip=axis == 0))[0]
    flipped = (images == np.flip(photo, axis)).all((1, 2, 3))
    assert ((images == photo).all((1, 2, 3)) | flipped).all()
    assert 30 <= flipped.sum() <= 70  # 50, with a deviation of 5


def test_a_rotation_by_90_degrees_and_a_shift_by_whole_pixels_are_exact(photo):
    square = photo[:, :24].astype("float32")
    np.testing.assert_allclose(geometry.rotate(square, 90.0), np.rot90(square), atol=0.01)
    np.testing.assert_array_equal(geometry.rotate(square, 0.0), square)
    moved = geometry.transform(square, [[1.0, 0.0], [0.0, 1.0]], (3.0, -2.0)).numpy()
    np.testing.assert_array_equal(moved[2:, :-3], square[:-2, 3:])
    np.testing.assert_array_equal(moved[:2, :-3], square[1::-1, 3:])  # reflected at the border


def test_images_are_rotated_within_the_angle(photo):
    # The end of a line from the centre to the right shows the angle.
    line = np.zeros((24, 32, 3), "uint8")
    line[11:13, 16:] = 255
    rotated = augmented([line] * 40, Augmentation(rotation=30))[0][:, :, 26, 0]
    angles = np.degrees(np.arctan2(11.5 - (rotated * np.arange(24)).sum(1) / rotated.sum(1), 10.5))
    assert -31 < angles.min() < -20 and 20 < angles.max() < 31


def enhanced(kind):
    return lambda image, amount: kind(image).enhance(1 + amount)


def sheared(image, matrix):
    """Pillow's affine transformation about the centre."""
    (a, b), (d, e) = matrix
    x, y = image.width / 2, image.height / 2
    coefficients = (a, b, x - a * x - b * y, d, e, y - d * x - e * y)
    return image.transform(image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)


@pytest.mark.parametrize(
    ("operation", "amount", "reference"),
    [
        ("identity", 0.0, lambda image, _: image),
        *[("brightness", amount, enhanced(ImageEnhance.Brightness)) for amount in (-0.9, 0.5)],
        *[("contrast", amount, enhanced(ImageEnhance.Contrast)) for amount in (-0.9, 0.5)],
        *[("saturation", amount, enhanced(ImageEnhance.Color)) for amount in (-0.9, 0.5)],
        *[("sharpness", amount, enhanced(ImageEnhance.Sharpness)) for amount in (-0.9, 0.5)],
        *[
            ("posterize", bits, lambda image, bits: ImageOps.posterize(image, 8 - round(bits)))
            for bits in (0.0, 3.0, 5.8)
        ],
        *[
            ("solarize", amount, lambda image, amount: ImageOps.solarize(image, 256 - amount))
            for amount in (0.0, 100.0)
        ],
        ("auto_contrast", 0.0, lambda image, _: ImageOps.autocontrast(image)),
        ("equalize", 0.0, lambda image, _: ImageOps.equalize(image)),
        ("shear_x", 0.3, lambda image, amount: sheared(image, [[1, amount], [0, 1]])),
        ("shear_y", -0.3, lambda image, amount: sheared(image, [[1, 0], [amount, 1]])),
        ("rotate", 20.0, lambda image, degrees: image.rotate(degrees, Image.Resampling.BILINEAR)),
        ("translate_x", 0.125, lambda image, _: Image.fromarray(np.roll(np.array(image), -4, 1))),
        ("translate_y", 0.125, lambda image, _: Image.fromarray(np.roll(np.array(image), -3, 0))),
    ],
)
def test_operations_give_the_same_as_pillow(photo, operation, amount, reference):
    dim = np.clip(photo, 40, 200)  # leaves room to stretch the values
    found = policies.OPERATIONS[operation](tf.constant(dim, tf.float32), amount).numpy()
    expected = np.array(reference(Image.fromarray(dim), amount)).astype(float)
    inside = slice(None)
    if operation in ("shear_x", "shear_y", "rotate", "translate_x", "translate_y"):
        inside = (slice(8, 16), slice(8, 24))  # Pillow fills areas from outside with black, we with a reflection
    rounded = operation not in ("identity", "posterize", "solarize", "equalize")  # and clipped, by Pillow
    assert np.abs(found - expected)[inside].max() <= (1.5 if rounded else 0)


def test_an_image_of_one_colour_stays_the_same():
    grey = np.full((4, 5, 3), 77, "float32")
    for operation in (policies.auto_contrast, policies.equalize):
        np.testing.assert_array_equal(operation(tf.constant(grey), 0.0), grey)


def test_trivial_augment_draws_every_operation(photo):
    assert set(policies.AUTO_AUGMENT) == set(policies.WIDE) == set(policies.OPERATIONS)
    counts = np.bincount(draw_many(lambda draws: draws.integer(14), tf.int32), minlength=14)
    assert ((counts - MANY / 14) ** 2 / (MANY / 14)).sum() < 35  # chi-squared, 13 degrees of freedom: 1 in 1,000
    image = tf.constant(photo, tf.float32)
    images = draw_many(lambda draws: policies.trivial_augment(image, 1.0, draws), tf.TensorSpec((*SIZE, 3)))
    # Three operations have one outcome; posterize has 6, solarize 30, the other nine 60 and are drawn about 29 times each.
    assert 200 < len(np.unique(images, axis=0)) < 300


def test_policies_apply_what_the_papers_say(monkeypatch):
    calls = []

    def apply(image, ranges, magnitude, draws):
        calls.append(ranges)
        return image + magnitude

    monkeypatch.setattr(policies, "_apply", apply)
    assert policies.rand_augment(0.0, 0.3, 2, None) == 0.6 and calls == [policies.AUTO_AUGMENT] * 2
    magnitudes = draw_many(lambda draws: policies.trivial_augment(0.0, 0.5, draws))
    np.testing.assert_allclose(np.unique(magnitudes), np.arange(31) / 60, atol=1e-6)
    assert calls[2:] == [policies.WIDE]


def test_colours_change_as_in_pillow(photo):
    dim = np.clip(photo, 60, 180)
    factors = {"brightness": 0.8, "contrast": 0.7, "saturation": 1.2}

    class Fixed:
        """Returns the factors in order."""

        def __init__(self):
            self.values = iter(factors.values())

        def uniform_around(self, centre, max_distance):
            assert centre == 1 and max_distance == 0.3
            return next(self.values)

    found = jitter(tf.constant(dim, tf.float32), Augmentation(brightness=0.3, contrast=0.3, saturation=0.3), Fixed())
    image = Image.fromarray(dim)
    for kind, name in (("Color", "saturation"), ("Brightness", "brightness"), ("Contrast", "contrast")):
        image = getattr(ImageEnhance, kind)(image).enhance(factors[name])
    assert np.abs(found - np.array(image).astype(float)).max() < 2.5  # Pillow clips three times


def test_colour_factors_stay_within_their_range(photo):
    grey, bright = Augmentation(brightness=0.2, contrast=0.5, saturation=0.5, hue=90), Augmentation(brightness=1.0)
    values = draw_many(lambda draws: jitter(tf.fill((2, 3, 3), 100.0), grey, draws), tf.TensorSpec((2, 3, 3)))
    assert np.ptp(values, axis=(1, 2, 3)).max() < 0.01  # grey stays grey, and only brightness changes the mean
    assert 80 <= values.min() < 83 and 117 < values.max() <= 120
    assert draw_many(lambda draws: tf.reduce_max(jitter(tf.constant(photo, tf.float32), bright, draws))).max() == 255


@pytest.mark.parametrize("degrees", [0.0, 30.0, -90.0])
def test_hue_rotates_the_chroma_and_keeps_the_grey(degrees):
    rgb = (0.5, 0.4, 0.6)
    rotated = np.array([rgb], "float32") @ hue(degrees).numpy()
    grey, *chroma = colorsys.rgb_to_yiq(*rgb)
    grey_after, *chroma_after = colorsys.rgb_to_yiq(*rotated[0])  # rounds its coefficients to two digits
    assert grey_after == pytest.approx(grey, abs=0.002)
    expected = complex(*chroma) * complex(math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))
    assert complex(*chroma_after) == pytest.approx(expected, abs=0.005)


def test_erasing_replaces_a_rectangle_by_noise():
    blank = tf.fill((30, 40, 3), -1.0)
    images = draw_many(lambda draws: erasing.erase(blank, 0.25, draws), tf.TensorSpec((30, 40, 3)))
    covered = (images >= 0).all(-1)
    np.testing.assert_array_equal(covered, (images != -1).any(-1))
    erased = covered[covered.any((1, 2))]
    assert 0.15 < len(erased) / MANY < 0.35  # 0.25, with a deviation of 0.022
    share = erased.mean((1, 2))
    assert 0.015 < share.min() < 0.05 and 0.35 < share.max() < 0.41
    for mask in erased:
        np.testing.assert_array_equal(mask, mask.any(1)[:, None] & mask.any(0))
        assert (np.diff(np.flatnonzero(mask.any(0))) == 1).all() and (np.diff(np.flatnonzero(mask.any(1))) == 1).all()
    noise = images[covered]
    assert noise.max() < 255 and noise.mean() == pytest.approx(127.5, abs=1)


def mixed(mixup, cutmix, count=MANY):
    """Mixed images, their targets, and the share that each has of itself. Before, image i has the value i in all pixels."""
    images = np.broadcast_to(np.arange(count, dtype="float32")[:, None, None, None], (count, 16, 20, 3))
    seeds = tf.stack([tf.zeros(count, tf.int64), tf.range(count, dtype=tf.int64)], 1)
    run = tf.function(lambda: mixing.mix(images, tf.eye(count), mixup, cutmix, seeds))
    images, targets = (result.numpy() for result in run())
    return images, targets, targets[np.arange(count), np.arange(count)]


@pytest.mark.parametrize(("mixup", "cutmix", "share_of_cuts"), [(0.2, 0.0, 0), (0.0, 1.0, 1), (0.2, 1.0, 0.5)])
def test_labels_are_mixed_in_the_share_of_the_pixels(mixup, cutmix, share_of_cuts):
    images, targets, share = mixed(mixup, cutmix)
    own = np.arange(MANY)
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(targets[own, own - 1], 1 - share, atol=1e-6)
    # All pixels of image i are i or i - 1 or between: their mean shows the share, for both methods.
    means = share * own + (1 - share) * np.roll(own, 1)
    np.testing.assert_allclose(images.mean((1, 2, 3)), means, rtol=1e-5, atol=1e-4)
    boxes = [(image == partner).all(-1) for image, partner in zip(images, np.roll(own, 1), strict=True)]
    cut = np.array(
        [(box | (image == i).all(-1)).all() for i, (image, box) in enumerate(zip(images, boxes, strict=True))]
    )
    partly = (share > 0.001) & (share < 0.999)
    assert cut[partly].mean() == pytest.approx(share_of_cuts, abs=0.1 if mixup and cutmix else 0)
    for box in np.array(boxes)[cut]:
        np.testing.assert_array_equal(box, box.any(1)[:, None] & box.any(0))


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_draws_from_a_beta_distribution(alpha):
    share = mixed(alpha, 0.0)[2]
    variance = 1 / (4 * (2 * alpha + 1))
    assert share.mean() == pytest.approx(0.5, abs=4 * math.sqrt(variance / MANY))
    assert share.var() == pytest.approx(variance, rel=0.2)


def test_cutmix_cuts_the_part_of_the_rectangle_that_is_inside_the_image():
    share = mixed(0.0, 1.0)[2]
    # Of a side s with a uniform centre, s - s^2/4 is inside on average, and s^2 is uniform: the share that is cut is
    # E[(s - s^2/4)^2] = 1/2 - 1/5 + 1/48.
    assert share.mean() == pytest.approx(1 - (1 / 2 - 1 / 5 + 1 / 48), abs=4 * float(share.std()) / math.sqrt(MANY))


def test_the_preview_starts_each_row_with_the_image_itself(photo):
    preview = augmentation_preview(np.stack([photo, photo[::-1]]), SIZE, Augmentation(horizontal_flip=True), epochs=3)
    assert preview.shape == (24 * 2 + 4, 32 * 4 + 12, 3) and preview.dtype == np.uint8
    np.testing.assert_array_equal(preview[:24, :32], photo)
    np.testing.assert_array_equal(preview[28:, :32], photo[::-1])
    assert (preview[24:28] == 255).all() and (preview[:, 32:36] == 255).all()
    for column in (36, 72, 108):
        cell = preview[:24, column : column + 32]
        assert (cell == photo).all() or (cell == photo[:, ::-1]).all()
