"""Reads every file of a catalog once: its pixels for the network, and a record of everything that the doctor checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import PIL
import tensorflow as tf

from keras_cnn import Preprocessing, images
from keras_cnn.images import png
from pipelines import doctor
from pipelines.catalog import Catalog
from pipelines.datasets import image_files
from pipelines.datasets.array_cache import ArrayCache, NoRoomError, digest
from pipelines.datasets.image_files import ImageFiles
from pipelines.doctor.headers import FORMATS, HEAD, TRAITS, read_header
from pipelines.doctor.unreadable import why_unreadable

THUMBNAIL = 8  # pixels per side
RECORD = np.dtype(
    [
        ("readable", "?"),
        ("fingerprint", "i8"),  # equal for equal bytes
        ("format", "u1"),  # index in `FORMATS`; their number if Pillow does not know the format
        ("height", "i4"),
        ("width", "i4"),
        ("traits", "u1"),  # one bit per trait in `TRAITS`
        ("range", "u1"),  # the largest difference, of all channels, between the brightest and the darkest value
        ("brightest", "u1"),  # value of any channel
        ("deepest", "u2", (2,)),  # for 16 bits per channel: the smallest and the largest value; zeros for other images
        ("thumbnail", "u1", (THUMBNAIL, THUMBNAIL, 3)),  # mean colours
    ]
)
FROM_PIXELS = ("fingerprint", "range", "brightest", "deepest", "thumbnail")
BATCH = 64


class Images:
    """The decoded images of a catalog, and one record per file.

    Attributes:
        source: From `pipelines.datasets.image_files.load_images`; None if the images are not stored.
        records: `(files,)` of `RECORD`, for the files that were included.
        catalog_indices: Their indices in the catalog, ascending.
        preprocessing: How the images were prepared.
        key: A digest of files and preprocessing.
    """

    def __init__(
        self,
        source: np.ndarray | ImageFiles | None,
        records: np.ndarray,
        catalog_indices: np.ndarray,
        preprocessing: Preprocessing,
        key: str,
    ):
        self.source, self.records, self.catalog_indices = source, records, catalog_indices
        self.preprocessing, self.key = preprocessing, key

    def indices_of(self, catalog_indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The indices in `source` and `records` of the files at these indices of the catalog."""
        return np.searchsorted(self.catalog_indices, catalog_indices)

    def fingerprints(self, count: int) -> list[int | str]:
        """For each of the `count` files of the catalog a number, equal for equal files; "" for files that were not read."""
        pairs = zip(self.catalog_indices.tolist(), self.records["fingerprint"].tolist(), strict=True)
        known = {index: number for index, number in pairs if number}
        return [known.get(index, "") for index in range(count)]


def read(
    catalog: Catalog,
    preprocessing: Preprocessing,
    cache: ArrayCache,
    progress: Callable[[int], object] = lambda count: None,
    store_images: bool = True,
) -> tuple[Catalog, Images]:
    """Read and decode every included file once. Files that cannot be read are excluded, each with its reason.

    Args:
        catalog: A catalog.
        preprocessing: How the images are prepared.
        cache: Where decoded images and records are stored.
        progress: Called with the number of files done since the last call.
        store_images: Whether to store the decoded images, for a job that learns from them.

    Returns:
        The catalog, and the `Images` of all files that were included before.
    """
    indices = catalog.included()
    files = ImageFiles([catalog.paths[index] for index in indices], preprocessing)
    records_key = digest("records", files.key, image_files.code_version(doctor), PIL.__version__)
    pixels: np.ndarray | ImageFiles | None = None
    if store_images:
        pixels = cache.get(files.key, files.shape, files.dtype)
    records = cache.get(records_key, (len(files),), RECORD)
    if records is None or (store_images and pixels is None):
        pixels, records = _read_files(files, cache, records_key, records, store_images, progress)
    else:
        progress(len(files))
    unreadable = np.flatnonzero(~records["readable"])
    reasons = {int(indices[i]): why_unreadable(files.paths[i], preprocessing) for i in unreadable.tolist()}
    return catalog.exclude(reasons), Images(pixels, records, indices, preprocessing, files.key)


def _read_files(
    files: ImageFiles,
    cache: ArrayCache,
    records_key: str,
    known_records: np.ndarray | None,
    store_images: bool,
    progress: Callable[[int], object],
) -> tuple[np.ndarray | ImageFiles | None, np.ndarray]:
    """Read the files in one pass, which fills both entries of the cache: the images, and the records.

    Returns:
        The images, as `ImageFiles` if there is no room for them, and None if they are not to be stored; and the records.
    """
    with ExitStack() as stack:
        new_pixels = None
        if store_images:
            try:
                new_pixels = stack.enter_context(cache.create(files.key, files.shape, files.dtype))
            except NoRoomError as error:
                image_files.warn_of_repeated_decoding(error)
                if known_records is not None:  # nothing is left to read
                    progress(len(files))
                    return files, known_records
        new_records = stack.enter_context(cache.create(records_key, (len(files),), RECORD))
        _fill(files, new_records.array, new_pixels.array if new_pixels else None, progress)
        records = new_records.publish()
        if new_pixels:
            return new_pixels.publish(), records
        return (files if store_images else None), records


def _fill(files: ImageFiles, records: np.ndarray, pixels: np.ndarray | None, progress: Callable[[int], object]) -> None:
    """Fill `records`, and `pixels` unless they are None. Files that cannot be read leave zeros."""
    records["readable"] = False
    end = 0
    batches = image_files.decode_files(files.paths, files.preprocessing, tf.uint8, _properties).batch(BATCH).prefetch(1)
    for indices, pixels_of_batch, *properties in batches:
        indices = indices.numpy()
        start, end = end, int(indices[-1]) + 1
        if pixels is not None:
            pixels[np.setdiff1d(np.arange(start, end), indices)] = 0
            pixels[indices] = pixels_of_batch
        heads, orientations, *values = (value.numpy() for value in properties)
        for name, value in zip(FROM_PIXELS, values, strict=True):
            records[name][indices] = value
        for index, head, orientation in zip(indices, heads, orientations, strict=True):
            for name, value in _from_header(files.paths[index], head, orientation).items():
                records[name][index] = value
        records["readable"][indices] = True
        progress(end - start)
    if pixels is not None:
        pixels[end:] = 0
    progress(len(files) - end)


def _properties(content: tf.Tensor, image: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """The first bytes and the orientation of a file, then the values of `FROM_PIXELS`, in TensorFlow operations."""
    height, width, _ = image.shape
    rows, columns = (tf.constant(_averaging_matrix(side), tf.float32) for side in (height, width))
    thumbnail = tf.reshape(rows @ tf.reshape(image, (height, -1)), (THUMBNAIL, width, 3))
    thumbnail = tf.matmul(tf.broadcast_to(columns, (THUMBNAIL, *columns.shape)), thumbnail)
    # Over the rows first: TensorFlow is slow if the axis to reduce is next to a short axis, as that of three channels.
    darkest, brightest = tf.reduce_min(tf.reduce_min(image, 0), 0), tf.reduce_max(tf.reduce_max(image, 0), 0)
    values = tf.reduce_max(brightest - darkest), tf.reduce_max(brightest)
    extent, brightest, thumbnail = (tf.saturate_cast(tf.round(value), tf.uint8) for value in (*values, thumbnail))
    with tf.control_dependencies([image]):  # after the image is decoded it is known that the file fits into memory
        deepest = png.range_of_16_bits(content)
    return (
        tf.strings.substr(content, 0, HEAD),
        images.read_orientation(content),
        fingerprint(content),
        extent,
        brightest,
        deepest,
        thumbnail,
    )


def fingerprint(contents: Any) -> tf.Tensor:
    """For each string of bytes in a tensor a number, equal for equal bytes."""
    return tf.strings.to_hash_bucket_fast(contents, tf.int64.max)


def _averaging_matrix(side: int) -> np.ndarray:
    """`(8, side)`: each row takes the mean over an eighth of a side."""
    edges = np.linspace(0, side, THUMBNAIL + 1)
    starts, ends = np.maximum(edges[:-1, None], np.arange(side)), np.minimum(edges[1:, None], np.arange(side) + 1)
    return np.maximum(ends - starts, 0) * THUMBNAIL / side


def _from_header(path: str, head: bytes, orientation: int) -> dict[str, int]:
    """The fields of a record that come from the header of a file."""
    header = read_header(path, head, int(orientation))
    if header is None:
        return {"format": len(FORMATS), "height": 0, "width": 0, "traits": 0}
    traits = sum(2**number for number, trait in enumerate(TRAITS) if trait in header.traits)
    number = FORMATS.index(header.format) if header.format in FORMATS else len(FORMATS)
    return {"format": number, "height": header.height, "width": header.width, "traits": traits}
