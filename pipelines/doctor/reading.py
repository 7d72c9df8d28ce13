"""Every file of a catalog, read once: its pixels for the network, and a record of what the doctor looks at."""

from __future__ import annotations

import numpy as np
import PIL
import tensorflow as tf

from keras_cnn.images import decoding, png
from pipelines import doctor
from pipelines.catalog import Catalog
from pipelines.datasets import image_files
from pipelines.datasets.array_cache import Cache, digest
from pipelines.doctor.headers import FORMATS, HEAD, TRAITS, header
from pipelines.doctor.unreadable import why_unreadable

THUMBNAIL = 8  # pixels a side
RECORD = np.dtype(
    [
        ("readable", "?"),
        ("fingerprint", "i8"),  # equal for equal bytes
        ("format", "u1"),  # number in `FORMATS`, their count where Pillow knows none
        ("height", "i4"),
        ("width", "i4"),
        ("traits", "u1"),  # a bit for each of `TRAITS`
        ("range", "u1"),  # from the darkest to the brightest value of a channel, the largest such difference
        ("brightest", "u1"),  # value of any channel
        ("deepest", "u2", (2,)),  # of 16 bits a channel: the smallest and the largest value; zeros for other images
        ("thumbnail", "u1", (THUMBNAIL, THUMBNAIL, 3)),  # mean colours
    ]
)
NOTED = ("fingerprint", "range", "brightest", "deepest", "thumbnail")
BATCH = 64


class Images:
    """The decoded images of a catalog, and a record of each file.

    Attributes:
        source: As `pipelines.datasets.image_files.stored` gives it; None if the images were not to be kept.
        records: `(files,)` of `RECORD`, for the files that were in use.
        rows: Their rows in the catalog, ascending.
        preprocessing: How the images became as they are.
        key: A digest of files and preprocessing.
    """

    def __init__(self, source, records, rows, preprocessing, key: str):
        self.source, self.records, self.rows = source, records, rows
        self.preprocessing, self.key = preprocessing, key

    def positions(self, rows) -> np.ndarray:
        """Where in `source` and `records` the images of these rows of the catalog are."""
        return np.searchsorted(self.rows, rows)

    def fingerprints(self, count: int) -> list:
        """For each of the `count` rows of the catalog a number, equal for equal files; "" for those that were not read."""
        known = zip(self.rows.tolist(), self.records["fingerprint"].tolist(), strict=True)
        numbers = {row: number for row, number in known if number}
        return [numbers.get(row, "") for row in range(count)]


def read(catalog: Catalog, preprocessing, cache: Cache, progress=lambda count: None, keep: bool = True):
    """Read and decode every file in use once; those that fail are left out, each with its reason.

    Args:
        catalog: A catalog.
        preprocessing: `keras_cnn.Preprocessing`.
        cache: Where decoded images and records are kept.
        progress: Called with the number of files done since the last call.
        keep: Whether to keep the decoded images, for a job that learns from them.

    Returns:
        The catalog, and the `Images` of all its rows that were in use.
    """
    rows = catalog.used()
    files = image_files.Files([catalog.paths[row] for row in rows], preprocessing)
    source, done = None, False

    def look(records, pixels=None):
        nonlocal done
        _look(files, progress, records, pixels)
        done = True

    def fill(records):
        nonlocal source
        if keep:
            source = image_files.kept(files, cache, lambda pixels: look(records, pixels))
        if not done:
            look(records)

    records = cache.array(
        digest("records", files.key, image_files.code(doctor), PIL.__version__), (len(files),), RECORD, fill
    )
    if keep and source is None:
        source = image_files.kept(files, cache, lambda pixels: look(np.zeros(len(files), RECORD), pixels))
    if not done:
        progress(len(files))
    suspects = np.flatnonzero(~records["readable"])
    reasons = {int(rows[position]): why_unreadable(files.paths[position], preprocessing) for position in suspects}
    return catalog.leave_out(reasons), Images(source, records, rows, preprocessing, files.key)


def _look(files, progress, records, pixels):
    """Fill `records`, and `pixels` unless they are None; files that cannot be read leave zeros."""
    records["readable"], end = False, 0
    for positions, batch, *noted in (
        image_files.decoded(files.paths, files.preprocessing, tf.uint8, _notes).batch(BATCH).prefetch(1)
    ):
        positions, start, end = positions.numpy(), end, int(positions[-1]) + 1
        if pixels is not None:
            pixels[np.setdiff1d(np.arange(start, end), positions)] = 0
            pixels[positions] = batch
        heads, orientations, *values = (value.numpy() for value in noted)
        for name, value in zip(NOTED, values, strict=True):
            records[name][positions] = value
        for position, head, orientation in zip(positions, heads, orientations, strict=True):
            for name, value in _headed(files.paths[position], head, orientation).items():
                records[name][position] = value
        records["readable"][positions] = True
        progress(end - start)
    if pixels is not None:
        pixels[end:] = 0
    progress(len(files) - end)


def _notes(content, image):
    """First bytes and orientation of a file, then the values of `NOTED`, in TensorFlow operations."""
    height, width, _ = image.shape
    rows, columns = (tf.constant(_means(side), tf.float32) for side in (height, width))
    thumbnail = tf.reshape(rows @ tf.reshape(image, (height, -1)), (THUMBNAIL, width, 3))
    thumbnail = tf.matmul(tf.broadcast_to(columns, (THUMBNAIL, *columns.shape)), thumbnail)
    # Rows first: TensorFlow is slow where what it reduces lies beside what it keeps, as with three channels.
    darkest, brightest = tf.reduce_min(tf.reduce_min(image, 0), 0), tf.reduce_max(tf.reduce_max(image, 0), 0)
    values = tf.reduce_max(brightest - darkest), tf.reduce_max(brightest)
    extent, brightest, thumbnail = (tf.saturate_cast(tf.round(value), tf.uint8) for value in (*values, thumbnail))
    with tf.control_dependencies([image]):  # so it is known that the file is none that bursts the memory
        deepest = png.range_of_16_bits(content)
    return (
        tf.strings.substr(content, 0, HEAD),
        decoding.read_orientation(content),
        fingerprint(content),
        extent,
        brightest,
        deepest,
        thumbnail,
    )


def fingerprint(contents):
    """A number for each text of bytes in a tensor, equal for equal ones."""
    return tf.strings.to_hash_bucket_fast(contents, tf.int64.max)


def _means(side):
    """`(8, side)`: each row takes the mean over an eighth of a side."""
    edges = np.linspace(0, side, THUMBNAIL + 1)
    starts, ends = np.maximum(edges[:-1, None], np.arange(side)), np.minimum(edges[1:, None], np.arange(side) + 1)
    return np.maximum(ends - starts, 0) * THUMBNAIL / side


def _headed(path, head, orientation):
    """What the header of a file tells, as it is noted."""
    found = header(path, head, int(orientation))
    if found is None:
        return {"format": len(FORMATS), "height": 0, "width": 0, "traits": 0}
    traits = sum(2**number for number, trait in enumerate(TRAITS) if trait in found.traits)
    number = FORMATS.index(found.format) if found.format in FORMATS else len(FORMATS)
    return {"format": number, "height": found.height, "width": found.width, "traits": traits}
