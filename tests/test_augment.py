"""Random views: pixels against Pillow and by hand, nothing at strength 0, labels in the share of the pixels."""

import colorsys
import math
from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from scipy.special import softmax

import keras_cnn as kc
from keras_cnn.training import fit_linear_probe
from pipelines.augment import (
    PRESETS,
    Augmentation,
    augment,
    contact_sheet,
    cross_validated,
    erasing,
    geometry,
    mirroring,
    mixing,
    policies,
    preset,
)
from pipelines.augment.colour import hue, jitter
from pipelines.augment.draws import Draws
from pipelines.datasets.array_cache import Cache
from pipelines.datasets.image_files import stored
from pipelines.sample import DIRECTORY
from pipelines.training import feature_extractor

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
    return tf.function(lambda images, epoch, places: augment(images, targets, SIZE, augmentation, seed, epoch, places))


def views(images, augmentation, seed=0, epoch=0, positions=None):
    """The images and targets that `augment` makes of images with one class each."""
    positions = np.arange(len(images)) if positions is None else np.array(positions)
    run = traced(augmentation, seed, len(images))
    return [result.numpy() for result in run(tf.constant(images), tf.constant(epoch), tf.constant(positions))]


def many(function, signature=tf.float32):
    """What a function of `Draws` gives for many seeds."""
    seeds = tf.stack([tf.zeros(MANY, tf.int64), tf.range(MANY, dtype=tf.int64)], 1)
    run = tf.function(lambda: tf.map_fn(lambda seed: function(Draws(seed)), seeds, fn_output_signature=signature))
    return run().numpy()


@pytest.mark.parametrize("name", PRESETS)
def test_strength_0_changes_nothing(photo, name):
    assert preset(name, 0) == Augmentation()
    images, targets = views([photo] * 3, preset(name, 0))
    np.testing.assert_array_equal(images, [photo] * 3)
    np.testing.assert_array_equal(targets, np.eye(3))


def test_strength_scales_every_amount():
    half = Augmentation(smallest_crop=0.25, mirror=True, rotation=30, hue=10, erasing=0.5, mixup=0.4).scaled(0.5)
    assert half == Augmentation(smallest_crop=0.5, mirror=True, rotation=15, hue=5, erasing=0.25, mixup=0.2)
    assert preset("strong", 3).erasing == 0.75 and preset("strong", 5).erasing == 1
    assert preset("light").mirror and not preset("light", mirror=False).mirror
    assert Augmentation(**preset("strong").to_dict()) == preset("strong")


def test_only_crops_need_larger_pictures():
    assert preset("light").stored_size((224, 100)) == (256, 115)
    assert Augmentation(mirror=True, rotation=10).stored_size((224, 100)) == (224, 100)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: Augmentation(smallest_crop=0),
            "`smallest_crop` must be more than 0 and at most 1. Received: smallest_crop=0.",
        ),
        (lambda: Augmentation(erasing=1.5), "`erasing` must be from 0 to 1. Received: erasing=1.5."),
        (lambda: Augmentation(rotation=-1), "`rotation` must be from 0 to 180. Received: rotation=-1."),
        (lambda: Augmentation(mixup=math.nan), "`mixup` must be from 0 to inf. Received: mixup=nan."),
        (
            lambda: Augmentation(operations=11),
            "`operations` must be one of 1, 2, 3, 4, 5, 6, 7, 8, 9, 10. Received: operations=11.",
        ),
        (lambda: preset("huge"), "`name` must be one of 'none', 'light', 'medium', 'strong'. Received: name='huge'."),
    ],
)
def test_arguments_out_of_range_are_refused(make, text):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value).endswith(text)


def test_a_view_is_a_pure_function_of_seed_epoch_and_position(photo):
    light = Augmentation(mirror=True, rotation=20, brightness=0.5)
    first = views([photo] * 3, light)[0]
    np.testing.assert_array_equal(views([photo] * 3, light, positions=[2, 9, 0])[0][[0, 2]], first[[2, 0]])
    others = [views([photo] * 3, light, seed=1)[0], views([photo] * 3, light, epoch=1)[0]]
    everything = np.concatenate([first, *others])
    assert all((a != b).any() for i, a in enumerate(everything) for b in everything[:i])


def test_crops_lie_inside_and_have_the_area_that_was_asked_for():
    height, width, smallest = 120, 200, 0.35
    places = np.stack(np.mgrid[:height, :width], -1).astype("int32")

    def corners(draws):
        part = geometry.crop(tf.constant(places), smallest, draws)
        return tf.concat([part[0, 0], part[-1, -1], tf.shape(part)[:2]], 0)

    top, left, bottom, right, rows, columns = many(corners, tf.int32).T
    assert (bottom - top + 1 == rows).all() and (right - left + 1 == columns).all()  # a part, without gaps
    area, stretch = rows * columns / (height * width), (rows / height) / (columns / width)
    assert smallest - 0.01 < area.min() < 0.4 and 0.95 < area.max() <= 1
    assert 0.74 < stretch.min() < 0.8 and 1.25 < stretch.max() < 1.35
    assert area.mean() == pytest.approx((1 + smallest) / 2, abs=4 * (1 - smallest) / math.sqrt(12 * MANY))
    # Between touching one border and the other, all places are equally likely.
    for start, room in ((top, height - rows), (left, width - columns)):
        where = (start + 0.5)[room > 20] / (room + 1)[room > 20]
        assert where.mean() == pytest.approx(0.5, abs=4 / math.sqrt(12 * len(where)))
        assert where.min() < 0.05 and where.max() > 0.95


@pytest.mark.parametrize("axis", [0, 1])
def test_every_other_picture_is_flipped(photo, axis):
    images = views([photo] * 100, Augmentation(mirror=axis == 1, upside_down=axis == 0))[0]
    flipped = (images == np.flip(photo, axis)).all((1, 2, 3))
    assert ((images == photo).all((1, 2, 3)) | flipped).all()
    assert 30 <= flipped.sum() <= 70  # 50, with a deviation of 5


def test_a_quarter_turn_and_whole_steps_are_exact(photo):
    square = photo[:, :24].astype("float32")
    np.testing.assert_allclose(geometry.rotate(square, 90.0), np.rot90(square), atol=0.01)
    np.testing.assert_array_equal(geometry.rotate(square, 0.0), square)
    moved = geometry.transform(square, [[1.0, 0.0], [0.0, 1.0]], (3.0, -2.0)).numpy()
    np.testing.assert_array_equal(moved[2:, :-3], square[:-2, 3:])
    np.testing.assert_array_equal(moved[:2, :-3], square[1::-1, 3:])  # reflected at the border


def test_pictures_are_turned_within_the_angle(photo):
    # The end of a line from the centre to the right tells the angle.
    line = np.zeros((24, 32, 3), "uint8")
    line[11:13, 16:] = 255
    turned = views([line] * 40, Augmentation(rotation=30))[0][:, :, 26, 0]
    angles = np.degrees(np.arctan2(11.5 - (turned * np.arange(24)).sum(1) / turned.sum(1), 10.5))
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
def test_operations_are_those_of_pillow(photo, operation, amount, reference):
    dim = np.clip(photo, 40, 200)  # leaves something to stretch
    found = policies.OPERATIONS[operation](tf.constant(dim, tf.float32), amount).numpy()
    expected = np.array(reference(Image.fromarray(dim), amount)).astype(float)
    inside = slice(None)
    if operation in ("shear_x", "shear_y", "rotate", "translate_x", "translate_y"):
        inside = (slice(8, 16), slice(8, 24))  # blank areas are Pillow's black here, and ours a reflection
    rounded = operation not in ("identity", "posterize", "solarize", "equalize")  # and cut off, by Pillow
    assert np.abs(found - expected)[inside].max() <= (1.5 if rounded else 0)


def test_a_uniform_picture_has_nothing_to_stretch():
    grey = np.full((4, 5, 3), 77, "float32")
    for operation in (policies.auto_contrast, policies.equalize):
        np.testing.assert_array_equal(operation(tf.constant(grey), 0.0), grey)


def test_trivial_augment_draws_every_operation(photo):
    assert set(policies.AUTO_AUGMENT) == set(policies.WIDE) == set(policies.OPERATIONS)
    counts = np.bincount(many(lambda draws: draws.integer(14), tf.int32), minlength=14)
    assert ((counts - MANY / 14) ** 2 / (MANY / 14)).sum() < 35  # chi-squared, 13 degrees of freedom: 1 in 1,000
    image = tf.constant(photo, tf.float32)
    images = many(lambda draws: policies.trivial_augment(image, 1.0, draws), tf.TensorSpec((*SIZE, 3)))
    # Three operations have one outcome; posterize has 6, solarize 30, the other nine 60 and are drawn about 29 times each.
    assert 200 < len(np.unique(images, axis=0)) < 300


def test_policies_apply_what_the_papers_say(monkeypatch):
    calls = []

    def apply(image, ranges, magnitude, draws):
        calls.append(ranges)
        return image + magnitude

    monkeypatch.setattr(policies, "_apply", apply)
    assert policies.rand_augment(0.0, 0.3, 2, None) == 0.6 and calls == [policies.AUTO_AUGMENT] * 2
    magnitudes = many(lambda draws: policies.trivial_augment(0.0, 0.5, draws))
    np.testing.assert_allclose(np.unique(magnitudes), np.arange(31) / 60, atol=1e-6)
    assert calls[2:] == [policies.WIDE]


def test_colours_are_blended_as_pillow_does_it(photo):
    dim = np.clip(photo, 60, 180)
    factors = {"brightness": 0.8, "contrast": 0.7, "saturation": 1.2}

    class Fixed:
        """Gives the factors in the order in which they are asked for."""

        def __init__(self):
            self.values = iter(factors.values())

        def around(self, middle, amount):
            assert middle == 1 and amount == 0.3
            return next(self.values)

    found = jitter(tf.constant(dim, tf.float32), Augmentation(brightness=0.3, contrast=0.3, saturation=0.3), Fixed())
    image = Image.fromarray(dim)
    for kind, name in (("Color", "saturation"), ("Brightness", "brightness"), ("Contrast", "contrast")):
        image = getattr(ImageEnhance, kind)(image).enhance(factors[name])
    assert np.abs(found - np.array(image).astype(float)).max() < 2.5  # Pillow cuts off three times


def test_colour_factors_stay_within_their_range(photo):
    grey, bright = Augmentation(brightness=0.2, contrast=0.5, saturation=0.5, hue=90), Augmentation(brightness=1.0)
    values = many(lambda draws: jitter(tf.fill((2, 3, 3), 100.0), grey, draws), tf.TensorSpec((2, 3, 3)))
    assert np.ptp(values, axis=(1, 2, 3)).max() < 0.01  # grey is left grey, and the mean is left by all but brightness
    assert 80 <= values.min() < 83 and 117 < values.max() <= 120
    assert many(lambda draws: tf.reduce_max(jitter(tf.constant(photo, tf.float32), bright, draws))).max() == 255


@pytest.mark.parametrize("degrees", [0.0, 30.0, -90.0])
def test_hue_turns_the_chroma_and_leaves_the_grey(degrees):
    rgb = (0.5, 0.4, 0.6)
    turned = np.array([rgb], "float32") @ hue(degrees).numpy()
    grey, *chroma = colorsys.rgb_to_yiq(*rgb)
    grey_after, *chroma_after = colorsys.rgb_to_yiq(*turned[0])  # rounds its coefficients to two digits
    assert grey_after == pytest.approx(grey, abs=0.002)
    expected = complex(*chroma) * complex(math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))
    assert complex(*chroma_after) == pytest.approx(expected, abs=0.005)


def test_erasing_covers_a_rectangle_with_noise():
    blank = tf.fill((30, 40, 3), -1.0)
    images = many(lambda draws: erasing.erase(blank, 0.25, draws), tf.TensorSpec((30, 40, 3)))
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
    """Images of one value each, 0 to count - 1, mixed: images, targets, and the share that each has kept by its target."""
    images = np.broadcast_to(np.arange(count, dtype="float32")[:, None, None, None], (count, 16, 20, 3))
    seeds = tf.stack([tf.zeros(count, tf.int64), tf.range(count, dtype=tf.int64)], 1)
    run = tf.function(lambda: mixing.mix(images, tf.eye(count), mixup, cutmix, seeds))
    images, targets = (result.numpy() for result in run())
    return images, targets, targets[np.arange(count), np.arange(count)]


@pytest.mark.parametrize(("mixup", "cutmix", "share_of_cuts"), [(0.2, 0.0, 0), (0.0, 1.0, 1), (0.2, 1.0, 0.5)])
def test_labels_are_mixed_in_the_share_of_the_pixels(mixup, cutmix, share_of_cuts):
    images, targets, kept = mixed(mixup, cutmix)
    own = np.arange(MANY)
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(targets[own, own - 1], 1 - kept, atol=1e-6)
    # All pixels of image i are i or i - 1 or between: their mean tells the share, whichever the method.
    means = kept * own + (1 - kept) * np.roll(own, 1)
    np.testing.assert_allclose(images.mean((1, 2, 3)), means, rtol=1e-5, atol=1e-4)
    boxes = [(image == partner).all(-1) for image, partner in zip(images, np.roll(own, 1), strict=True)]
    cut = np.array(
        [(box | (image == i).all(-1)).all() for i, (image, box) in enumerate(zip(images, boxes, strict=True))]
    )
    partly = (kept > 0.001) & (kept < 0.999)
    assert cut[partly].mean() == pytest.approx(share_of_cuts, abs=0.1 if mixup and cutmix else 0)
    for box in np.array(boxes)[cut]:
        np.testing.assert_array_equal(box, box.any(1)[:, None] & box.any(0))


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_draws_from_a_beta_distribution(alpha):
    kept = mixed(alpha, 0.0)[2]
    variance = 1 / (4 * (2 * alpha + 1))
    assert kept.mean() == pytest.approx(0.5, abs=4 * math.sqrt(variance / MANY))
    assert kept.var() == pytest.approx(variance, rel=0.2)


def test_cutmix_cuts_the_share_of_a_box_that_may_leave_the_picture():
    kept = mixed(0.0, 1.0)[2]
    # A side s with its centre anywhere has s - s^2/4 inside on average, and s^2 is uniform: the share that is cut is
    # E[(s - s^2/4)^2] = 1/2 - 1/5 + 1/48.
    assert kept.mean() == pytest.approx(1 - (1 / 2 - 1 / 5 + 1 / 48), abs=4 * float(kept.std()) / math.sqrt(MANY))


def test_the_sheet_shows_each_picture_first_as_it_is(photo):
    sheet = contact_sheet(np.stack([photo, photo[::-1]]), SIZE, Augmentation(mirror=True), views=3)
    assert sheet.shape == (24 * 2 + 4, 32 * 4 + 12, 3) and sheet.dtype == np.uint8
    np.testing.assert_array_equal(sheet[:24, :32], photo)
    np.testing.assert_array_equal(sheet[28:, :32], photo[::-1])
    assert (sheet[24:28] == 255).all() and (sheet[:, 32:36] == 255).all()
    for column in (36, 72, 108):
        cell = sheet[:24, column : column + 32]
        assert (cell == photo).all() or (cell == photo[:, ::-1]).all()


def test_mirroring_is_judged_by_what_is_still_known():
    # Two classes, as frequent as each other: H = log 2. Likelihoods of the own class, plain and mirrored:
    plain, mirrored = np.array([0.8, 0.8, 0.9, 0.9]), np.array([0.8, 0.8, 0.9, 0.3])
    targets = np.array([0, 0, 1, 1])

    def scores(likelihoods):
        own = np.eye(2)[targets]
        return likelihoods[:, None] * own + (1 - likelihoods)[:, None] * (1 - own)

    same, other = mirroring(scores(plain), scores(plain), targets), mirroring(scores(plain), scores(mirrored), targets)
    assert same.harmless and same.kept == 1 and same.plain == same.mirrored == pytest.approx(0.164252, abs=1e-6)
    assert other.mirrored - other.plain == pytest.approx(math.log(3) / 4)
    assert other.kept == pytest.approx(1 - math.log(3) / 4 / (math.log(2) - 0.164252), abs=1e-5)
    assert not other.harmless and other.harmed == ()  # class 1 has lost 0.55 nats
    assert mirroring(scores(plain), scores(np.array([0.8, 0.8, 0.2, 0.3])), targets).harmed == (1,)  # 1.30
    assert not mirroring(
        scores(1 - plain), scores(1 - plain), targets
    ).harmless  # a head that knows nothing cannot tell


def test_mirroring_with_several_labels_counts_what_is_said_of_every_class():
    # Two classes, each on half of the images: H = 2 log 2. Of class 1 the mirror image of one image says nothing right.
    truth = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
    plain = np.where(truth, 0.9, 0.1)
    mirrored = plain.copy()
    mirrored[1, 1] = 0.1
    found = mirroring(plain, mirrored, truth)
    assert found.plain == pytest.approx(-2 * math.log(0.9))
    assert found.mirrored - found.plain == pytest.approx(math.log(9) / 4)
    assert found.kept == pytest.approx(1 - math.log(9) / 4 / (2 * math.log(2) + 2 * math.log(0.9)))
    assert found.harmed == (1,)  # log(9) / 2 = 1.10 on the two images that have it
    assert mirroring(plain, plain, truth).harmless


def test_one_harmed_class_of_many_is_found():
    targets = np.repeat(np.arange(50), 4)
    plain = np.full((200, 50), 0.1 / 49) + np.eye(50)[targets] * (0.9 - 0.1 / 49)
    mirrored = plain.copy()
    mirrored[targets == 7] = plain[targets == 8]
    found = mirroring(plain, mirrored, targets)
    assert found.kept > 0.9 and found.harmed == (7,) and not found.harmless


@pytest.mark.parametrize("independent", [False, True])
def test_with_few_images_flips_are_judged_by_cross_validation(independent):
    """Two classes that one feature tells apart, and that a flip turns round or leaves alone."""
    random, targets = np.random.default_rng(0), np.arange(64) % 2
    plain = random.normal(size=(64, 20)).astype("float32")
    plain[:, 0] = np.where(targets, 2, -2)
    truth = np.stack([targets, np.arange(64) // 2 % 2], 1) if independent else targets
    plain[:, 1] = np.where(np.arange(64) // 2 % 2, 2, -2)
    turned, left = plain * np.where(np.arange(20) == 0, -1, 1), plain * np.where(np.arange(20) == 5, -1, 1)
    assert not cross_validated(plain, turned, truth, 2, 0.01).harmless
    assert cross_validated(plain, left, truth, 2, 0.01).harmless
    # No feature tells the classes apart: what the heads know by heart does not count as knowing.
    unknown = plain[:, 2:]
    assert not cross_validated(unknown, unknown, truth, 2, 0.01).harmless


@pytest.mark.slow
def test_a_pretrained_network_tells_arrows_from_drawings(tmp_path):
    """Mirroring is harmless for the drawings of the sample, and harmful where left and right are classes."""
    backbone = kc.load_backbone("efficientnet_lite0", input_shape=(96, 96, 3))
    run = feature_extractor.inference(
        keras.Model(backbone.model.input, keras.layers.GlobalAveragePooling2D()(backbone.model.output))
    )

    def judge(images, targets):
        learn, check = np.arange(len(targets)) % 3 > 0, np.arange(len(targets)) % 3 == 0
        plain, mirrored = (feature_extractor.in_batches(run, view) for view in (images, images[:, :, ::-1]))
        classes = targets.max() + 1
        head = fit_linear_probe(plain[learn], targets[learn], classes, plain[check], targets[check])
        logits = [view[check] @ head.kernel + head.bias for view in (plain, mirrored)]
        return mirroring(*(softmax(scores, axis=1) for scores in logits), targets[check])

    files = [path for name in ("birds", "music", "plants") for path in sorted((DIRECTORY / name).iterdir())[:30]]
    drawings = stored(files, kc.Preprocessing(96), Cache(tmp_path)).astype("float32")
    assert judge(drawings, np.repeat(np.arange(3), 30)).harmless
    random, arrows = np.random.default_rng(0), []
    for _ in range(60):
        image = Image.new("RGB", (96, 96), tuple(random.integers(150, 256, 3).tolist()))
        x, y, size = random.integers(5, 30, 3).tolist()
        shape = [(x, y + size), (x + size, y), (x + size, y + size * 2 // 3), (x + 2 * size, y + size * 2 // 3)]
        ImageDraw.Draw(image).polygon(shape + [(a, 2 * (y + size) - b) for a, b in shape[:0:-1]], fill="black")
        arrows.append(np.array(image))
    right = np.array(arrows)[1::2, :, ::-1]
    both = np.concatenate([np.array(arrows)[::2], right]).astype("float32")
    assert not judge(both, np.repeat([0, 1], 30)).harmless
