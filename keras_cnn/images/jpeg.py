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
# Second bytes of markers: of applications, the first of which is for Exif data; the start of a scan; one that only fills.
APPLICATION, EXIF_APPLICATION, SCAN, FILL = 0xE0, 0xE1, 0xDA, 0xFF
EXIF = int.from_bytes(b"Exif")


def decode(content, shrinkage):
    """RGB `(height, width, 3)`, uint8, and its orientation; `shrinkage` as in `upright_rgb`."""
    noted = _orientation(content)
    height, width, components = tf.unstack(tf.image.extract_jpeg_shape(content))
    scale = tf.constant(0)
    if shrinkage:
        swapped = noted > 4
        times = shrinkage(tf.where(swapped, width, height), tf.where(swapped, height, width))
        scale = tf.reduce_sum(tf.cast(times >= SCALES[1:], tf.int32))
    content = _affordable(content, tf.stack([height, width]), components, scale)
    image = tf.switch_case(scale, [lambda ratio=ratio: _decode(content, ratio) for ratio in SCALES])
    return image, noted


def _decode(content, ratio):
    # The accurate transform gives what Pillow gives, bit for bit, and takes no longer than the fast one.
    return tf.io.decode_jpeg(content, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")


def _walk(content, leads_on):
    """Position, marker and beginning of the first segment for which not `leads_on(marker, beginning)`.

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
        lambda position, word: leads_on(*parts(word)), step, segment(tf.constant(2)), maximum_iterations=MOST_SEGMENTS
    )
    return position, *parts(word)


def _orientation(content):
    """That of the Exif data, if they stand among the segments of applications, at the beginning of the file."""
    position, marker, beginning = _walk(
        content, lambda marker, beginning: (marker >= APPLICATION) & (marker <= FILL) & (beginning != EXIF)
    )
    found = (marker == EXIF_APPLICATION) & (beginning == EXIF)
    return tf.cond(found, lambda: orientation.read(_exif(content, position)), lambda: 1)


def _exif(content, position):
    """The Exif data from their TIFF header on; in front of it are marker, length and a name of six bytes."""
    length = numbers(content, position + 2, 1, tf.uint16, big_endian=True)[0]
    return part(content, position + 10, tf.maximum(length - 8, 0))


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
