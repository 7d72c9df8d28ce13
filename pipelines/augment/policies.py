"""TrivialAugment and RandAugment: random operations from the same list of fourteen.

Keras' own `RandAugment` takes twenty times as long on the CPU, and accepts no seed per image.
Images are float32 `(h, w, 3)`, 0..255. Areas from outside the image are filled by reflection instead of grey.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from pipelines.augment import colour, geometry
from pipelines.augment.draws import Draws

Operation = Callable[[tf.Tensor, Any], tf.Tensor]

BINS = 30  # magnitudes are multiples of 1/30


def trivial_augment(image: tf.Tensor, share: float, draws: Draws) -> tf.Tensor:
    """One random operation, with a magnitude of 0 to `share` of the wide range (arXiv:2103.10158, table 1 and section 4)."""
    magnitude = share * tf.cast(draws.integer(BINS + 1), tf.float32) / BINS
    return _apply(image, WIDE, magnitude, draws)


def rand_augment(image: tf.Tensor, magnitude: float, num_ops: int, draws: Draws) -> tf.Tensor:
    """`num_ops` random operations one after another; `magnitude` is a share of AutoAugment's ranges (arXiv:1909.13719)."""
    for _ in range(num_ops):
        image = _apply(image, AUTO_AUGMENT, magnitude, draws)
    return image


def _apply(image: tf.Tensor, ranges: dict[str, float], magnitude: Any, draws: Draws) -> tf.Tensor:
    operation, sign = draws.integer(len(OPERATIONS)), tf.where(draws.bernoulli(), 1.0, -1.0)

    def branch(name: str, function: Operation) -> Callable[[], tf.Tensor]:
        return lambda: function(image, magnitude * ranges[name] * (1.0 if name in UNSIGNED else sign))

    return tf.switch_case(operation, [branch(name, function) for name, function in OPERATIONS.items()])


def identity(image: tf.Tensor, _: Any) -> tf.Tensor:
    """The image."""
    return image


def shear_x(image: tf.Tensor, amount: Any) -> tf.Tensor:
    """Rows shifted by `amount` times their distance from the middle row."""
    return geometry.transform(image, [[1.0, amount], [0.0, 1.0]])


def shear_y(image: tf.Tensor, amount: Any) -> tf.Tensor:
    """Columns shifted by `amount` times their distance from the middle column."""
    return geometry.transform(image, [[1.0, 0.0], [amount, 1.0]])


def translate_x(image: tf.Tensor, share: Any) -> tf.Tensor:
    """The image shifted by a share of its width."""
    return geometry.transform(image, [[1.0, 0.0], [0.0, 1.0]], (share * image.shape[1], 0.0))


def translate_y(image: tf.Tensor, share: Any) -> tf.Tensor:
    """The image shifted by a share of its height."""
    return geometry.transform(image, [[1.0, 0.0], [0.0, 1.0]], (0.0, share * image.shape[0]))


def brightness(image: tf.Tensor, amount: Any) -> tf.Tensor:
    """Values multiplied by 1 + amount."""
    return _clip(image * (1.0 + amount))


def contrast(image: tf.Tensor, amount: Any) -> tf.Tensor:
    """Distances from the mean grey multiplied by 1 + amount."""
    return _clip(image * (1.0 + amount) - amount * colour.mean_grey(image))


def saturation(image: tf.Tensor, amount: Any) -> tf.Tensor:
    """Distances of each pixel from its own grey multiplied by 1 + amount."""
    return colour.apply(image, colour.saturation(1.0 + amount))


def sharpness(image: tf.Tensor, amount: Any) -> tf.Tensor:
    """Distances from the smoothed image multiplied by 1 + amount; the border stays the same."""
    kernel = tf.tile(
        tf.constant([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]])[..., None, None] / 13, (1, 1, 3, 1)
    )
    smooth = tf.nn.depthwise_conv2d(image[None], kernel, (1, 1, 1, 1), "VALID")[0]
    inside = tf.pad(image[1:-1, 1:-1] - smooth, ((1, 1), (1, 1), (0, 0)))
    return _clip(image + amount * inside)


def posterize(image: tf.Tensor, bits: Any) -> tf.Tensor:
    """The lowest bits of each value set to zero; `bits` is rounded."""
    step = tf.pow(2.0, tf.round(bits))
    return tf.floor(tf.round(image) / step) * step


def solarize(image: tf.Tensor, amount: Any) -> tf.Tensor:
    """Values of 256 - amount and more replaced by their distance from 255."""
    return tf.where(image < 256.0 - amount, image, 255.0 - image)


def auto_contrast(image: tf.Tensor, _: Any) -> tf.Tensor:
    """Each channel stretched to 0..255."""
    low, high = (_by_channel(reduce, image) for reduce in (tf.reduce_min, tf.reduce_max))
    return (image - tf.where(high > low, low, 0.0)) * tf.where(high > low, 255.0 / tf.maximum(high - low, 1e-3), 1.0)


def _by_channel(reduce: Callable[..., tf.Tensor], image: tf.Tensor) -> tf.Tensor:
    # Over the rows first, with all columns and channels in one axis: three times as fast as over both axes at once.
    return reduce(tf.reshape(reduce(tf.reshape(image, (image.shape[0], -1)), 0), (-1, 3)), 0)


def equalize(image: tf.Tensor, _: Any) -> tf.Tensor:
    """The histogram of each channel equalized, as in Pillow."""
    levels = tf.cast(tf.round(image), tf.int32) + tf.constant([0, 256, 512])
    counts = tf.reshape(tf.math.bincount(tf.reshape(levels, (-1,)), minlength=768, maxlength=768), (3, 256))
    last = tf.reduce_max(tf.where(counts > 0, tf.range(256), 0), 1)
    step = (tf.reduce_sum(counts, 1) - tf.gather(counts, last, batch_dims=1)) // 255
    before = tf.cumsum(counts, axis=1, exclusive=True)
    even = tf.minimum((before + step[:, None] // 2) // tf.maximum(step, 1)[:, None], 255)
    table = tf.where(step[:, None] > 0, even, tf.range(256))
    return tf.cast(tf.gather(tf.reshape(table, (-1,)), levels), tf.float32)


def _clip(image: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(image, 0.0, 255.0)


OPERATIONS = {
    "identity": identity,
    "shear_x": shear_x,
    "shear_y": shear_y,
    "translate_x": translate_x,
    "translate_y": translate_y,
    "rotate": geometry.rotate,
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
    "sharpness": sharpness,
    "posterize": posterize,
    "solarize": solarize,
    "auto_contrast": auto_contrast,
    "equalize": equalize,
}
UNSIGNED = ("identity", "posterize", "solarize", "auto_contrast", "equalize")
# The amount at magnitude 1: AutoAugment's ranges (arXiv:1805.09501, table 6) and TrivialAugment's wide ranges. Angles are in
# degrees, shifts in shares of the side (32 of 224 pixels), posterize in bits, solarize in grey levels.
AUTO_AUGMENT = {
    **dict.fromkeys(("shear_x", "shear_y"), 0.3),
    **dict.fromkeys(("translate_x", "translate_y"), 150 / 331),
    **dict.fromkeys(("brightness", "contrast", "saturation", "sharpness"), 0.9),
    **dict.fromkeys(("identity", "auto_contrast", "equalize"), 0.0),
    "rotate": 30.0,
    "posterize": 4.0,
    "solarize": 256.0,
}
WIDE = {
    **AUTO_AUGMENT,
    **dict.fromkeys(("shear_x", "shear_y"), 0.99),
    **dict.fromkeys(("translate_x", "translate_y"), 32 / 224),
    **dict.fromkeys(("brightness", "contrast", "saturation", "sharpness"), 0.99),
    "rotate": 135.0,
    "posterize": 6.0,
}
