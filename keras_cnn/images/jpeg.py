"""JPEG (ITU-T T.81), decoded at a fraction of its size where that is enough."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_cnn.images import checks, orientation
from keras_cnn.images.file_bytes import not_inlined, read_bytes, read_numbers

SCALES = (1, 2, 4, 8)
MAX_SEGMENTS, MAX_SCANS = 256, 16
# Bytes times pixels below which a file takes seconds at most, whatever it contains.
MAX_CHEAP = 2**35
# Second bytes of markers: of application segments, the second of which is for Exif data; the start of a scan; padding.
APPLICATION, EXIF_APPLICATION, SCAN, FILL = 0xE0, 0xE1, 0xDA, 0xFF
NAME = b"Exif\0\0"
EXIF = int.from_bytes(NAME[:4])


def decode(content: tf.Tensor, downscale_factor: Callable | None) -> tuple[tf.Tensor, tf.Tensor]:
    """RGB `(height, width, 3)`, uint8, and its orientation; `downscale_factor` as in `decode_rgb`."""
    found = read_orientation(content)
    height, width, components = tf.unstack(tf.image.extract_jpeg_shape(content))
    scale = tf.constant(0)
    if downscale_factor:
        swapped = found > 4
        factor = downscale_factor(tf.where(swapped, width, height), tf.where(swapped, height, width))
        scale = tf.reduce_sum(tf.cast(factor >= SCALES[1:], tf.int32))
    content = _check_cost(content, tf.stack([height, width]), components, scale)
    image = tf.switch_case(scale, [lambda ratio=ratio: _decode(content, ratio) for ratio in SCALES])
    return image, found


def _decode(content: tf.Tensor, ratio: int) -> tf.Tensor:
    # The accurate transform gives what Pillow gives, bit for bit, and takes no longer than the fast one.
    return tf.io.decode_jpeg(content, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")


def _skip_segments(content: tf.Tensor, skips: Callable, start: tf.Tensor | int = 2) -> tuple[tf.Tensor, ...]:
    """Position, marker and beginning of the first segment from `start` on for which `skips(marker, beginning)` is false.

    A marker is its second byte; it is not in 1..255 where there is none. The beginning is the first four bytes of the
    segment's content.
    """

    def segment(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # One int64 holds marker, length and beginning: the fewer tensors a loop carries, the less it costs.
        data = read_bytes(content, position, 8)
        return position, tf.io.decode_raw(data, tf.int64, little_endian=False, fixed_length=8)[0]

    def unpack(word: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return word // 2**48 + 256, word % 2**32

    def step(position: tf.Tensor, word: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        length = tf.cast(word // 2**32 % 2**16, tf.int32)
        return segment(position + 1 + (1 + length) * tf.cast(unpack(word)[0] != FILL, tf.int32))

    position, word = tf.while_loop(
        lambda position, word: skips(*unpack(word)),
        step,
        segment(tf.convert_to_tensor(start)),
        maximum_iterations=MAX_SEGMENTS,
    )
    return position, *unpack(word)


def read_orientation(content: tf.Tensor) -> tf.Tensor:
    """The orientation in the Exif data: in one or more of the application segments at the beginning of the file."""

    def is_exif(marker: tf.Tensor, beginning: tf.Tensor) -> tf.Tensor:
        return (marker == EXIF_APPLICATION) & (beginning == EXIF)

    def next_exif(start: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        position, marker, beginning = _skip_segments(
            content,
            lambda marker, beginning: (marker >= APPLICATION) & (marker <= FILL) & ~is_exif(marker, beginning),
            start,
        )
        return position, is_exif(marker, beginning)

    def join(position: tf.Tensor, _: tf.Tensor, exif: tf.Tensor) -> tuple[tf.Tensor, ...]:
        length = read_numbers(content, position + 2, 1, tf.uint16, big_endian=True)[0]
        segment = read_bytes(content, position + 4, tf.maximum(length - 2, 0))
        data = tf.where(read_bytes(segment, 0, 6) == NAME, read_bytes(segment, 6, -1), "")
        return *next_exif(position + 2 + tf.maximum(length, 2)), tf.strings.join([exif, data])

    *_, exif = tf.while_loop(
        lambda position, found, exif: found, join, (*next_exif(2), ""), maximum_iterations=MAX_SEGMENTS
    )
    return orientation.from_exif(exif)


def _check_cost(content: tf.Tensor, shape: tf.Tensor, components: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """`content`, if decoding it takes neither the memory nor the time of a bomb; an error otherwise."""
    pixels = checks.num_pixels(shape)
    cheap = (pixels <= checks.MAX_PIXELS) & (pixels * tf.cast(tf.strings.length(content), tf.int64) <= MAX_CHEAP)
    fine = tf.cond(cheap, lambda: True, lambda: _has_few_scans(content, pixels, components, scale))
    sentence = (
        f"A JPEG image must have at most {checks.MAX_PIXELS} pixels, and no more than {MAX_SCANS} scans of so many. "
        "Received height and width:"
    )
    with tf.control_dependencies([checks.require(fine, sentence, shape)]):
        return tf.identity(content)


@not_inlined
def _has_few_scans(content: tf.Tensor, pixels: tf.Tensor, components: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Whether pixels and scans are few enough.

    A file with a single sequential scan takes memory for the decoded image. Of any other file all coefficients are kept, and
    each scan visits all of them.
    """

    def before_scan(marker: tf.Tensor, beginning: tf.Tensor) -> tf.Tensor:
        not_sequential = (marker >= 0xC2) & (marker <= 0xCF) & (marker != 0xC4)
        return (marker >= 1) & (marker <= 255) & (marker != SCAN) & ~not_sequential

    _, marker, beginning = _skip_segments(content, before_scan)
    single = (marker == SCAN) & (beginning // 2**24 == tf.cast(components, tf.int64))
    values = tf.io.decode_raw(tf.where(single, "", content), tf.uint8)
    scans = tf.math.count_nonzero((values[:-1] == 0xFF) & (values[1:] == SCAN))
    pixels = tf.where(single, pixels // tf.cast(4**scale, tf.int64), pixels)
    return (pixels <= checks.MAX_PIXELS) & (scans * pixels <= MAX_SCANS * checks.MAX_PIXELS)
