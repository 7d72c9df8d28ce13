"""JPEG (ITU-T T.81), decoded at a fraction of its size where that is enough."""

from __future__ import annotations

import tensorflow as tf

from keras_cnn.images import checks, orientation
from keras_cnn.images.file_bytes import numbers, part
from keras_cnn.images.graphs import apart

SCALES = (1, 2, 4, 8)
MOST_SEGMENTS, MOST_SCANS = 256, 16
# Bytes times pixels below which a file takes seconds at most, whatever it contains.
HARMLESS = 2**35
# Second bytes of markers: of applications, the second of which is for Exif data; the start of a scan; one that only fills.
APPLICATION, EXIF_APPLICATION, SCAN, FILL = 0xE0, 0xE1, 0xDA, 0xFF
NAME = b"Exif\0\0"
EXIF = int.from_bytes(NAME[:4])


def decode(content, shrinkage):
    """RGB `(height, width, 3)`, uint8, and its orientation; `shrinkage` as in `upright_rgb`."""
    turn = noted(content)
    height, width, components = tf.unstack(tf.image.extract_jpeg_shape(content))
    scale = tf.constant(0)
    if shrinkage:
        swapped = turn > 4
        times = shrinkage(tf.where(swapped, width, height), tf.where(swapped, height, width))
        scale = tf.reduce_sum(tf.cast(times >= SCALES[1:], tf.int32))
    content = _affordable(content, tf.stack([height, width]), components, scale)
    image = tf.switch_case(scale, [lambda ratio=ratio: _decode(content, ratio) for ratio in SCALES])
    return image, turn


def _decode(content, ratio):
    # The accurate transform gives what Pillow gives, bit for bit, and takes no longer than the fast one.
    return tf.io.decode_jpeg(content, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")


def _walk(content, leads_on, start=2):
    """Position, marker and beginning of the first segment from `start` on for which not `leads_on(marker, beginning)`.

    A marker is its second byte; it is not in 1..255 where there is none. The beginning is four bytes.
    """

    def segment(position):
        # A single number for marker, length and beginning: what a loop carries is what it costs.
        return position, tf.io.decode_raw(part(content, position, 8), tf.int64, little_endian=False, fixed_length=8)[0]

    def parts(word):
        return word // 2**48 + 256, word % 2**32

    def step(position, word):
        length = tf.cast(word // 2**32 % 2**16, tf.int32)
        return segment(position + 1 + (1 + length) * tf.cast(parts(word)[0] != FILL, tf.int32))

    position, word = tf.while_loop(
        lambda position, word: leads_on(*parts(word)),
        step,
        segment(tf.convert_to_tensor(start)),
        maximum_iterations=MOST_SEGMENTS,
    )
    return position, *parts(word)


def noted(content):
    """The orientation in the Exif data: in one or several of the segments of applications, at the beginning of the file."""

    def is_exif(marker, beginning):
        return (marker == EXIF_APPLICATION) & (beginning == EXIF)

    def next_exif(start):
        position, marker, beginning = _walk(
            content,
            lambda marker, beginning: (marker >= APPLICATION) & (marker <= FILL) & ~is_exif(marker, beginning),
            start,
        )
        return position, is_exif(marker, beginning)

    def join(position, _, exif):
        length = numbers(content, position + 2, 1, tf.uint16, big_endian=True)[0]
        segment = part(content, position + 4, tf.maximum(length - 2, 0))
        data = tf.where(part(segment, 0, 6) == NAME, part(segment, 6, -1), "")
        return *next_exif(position + 2 + tf.maximum(length, 2)), tf.strings.join([exif, data])

    *_, exif = tf.while_loop(
        lambda position, found, exif: found, join, (*next_exif(2), ""), maximum_iterations=MOST_SEGMENTS
    )
    return orientation.read(exif)


def _affordable(content, shape, components, scale):
    """`content`, once it is known that it takes neither the memory nor the time of a bomb."""
    pixels = checks.pixels(shape)
    harmless = (pixels <= checks.MAX_PIXELS) & (pixels * tf.cast(tf.strings.length(content), tf.int64) <= HARMLESS)
    fine = tf.cond(harmless, lambda: True, lambda: _verified(content, pixels, components, scale))
    sentence = (
        f"A JPEG image must have at most {checks.MAX_PIXELS} pixels, and no more than {MOST_SCANS} scans of so many. "
        "Received height and width:"
    )
    with tf.control_dependencies([checks.require(fine, sentence, shape)]):
        return tf.identity(content)


@apart
def _verified(content, pixels, components, scale):
    """A single sequential scan takes memory for what comes out; else all coefficients are kept, and each scan visits them."""

    def leads_on(marker, beginning):
        not_sequential = (marker >= 0xC2) & (marker <= 0xCF) & (marker != 0xC4)
        return (marker >= 1) & (marker <= 255) & (marker != SCAN) & ~not_sequential

    _, marker, beginning = _walk(content, leads_on)
    single = (marker == SCAN) & (beginning // 2**24 == tf.cast(components, tf.int64))
    values = tf.io.decode_raw(tf.where(single, "", content), tf.uint8)
    scans = tf.math.count_nonzero((values[:-1] == 0xFF) & (values[1:] == SCAN))
    pixels = tf.where(single, pixels // tf.cast(4**scale, tf.int64), pixels)
    return (pixels <= checks.MAX_PIXELS) & (scans * pixels <= MOST_SCANS * checks.MAX_PIXELS)
