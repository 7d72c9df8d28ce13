"""Images from memory, TFRecords or datasets, stored as files: everything after a catalog reads files.

An image that comes as the bytes of a file is stored as these bytes. Pixels become a PNG, which is lossless.

Why files, and not a second kind of source? So there is one way to read images: for checks, features,
training, reports, export, and for a later run from the `catalog.csv` of this one, when the array or the dataset is gone.
Sources with millions of images, folders and tables, are files already. Only TFRecords can be as large, and TensorFlow cannot
read one record of them by its index. The price is one copy on the disk: a file is named by a digest of its content, it is
complete once it has its name, and it is not written again. Splits are drawn from that name, so an image keeps its split when
the order of the images changes.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_cnn import cache_folder
from keras_cnn.images.formats import find_format
from keras_cnn.scratch import ScratchFolder
from pipelines.errors import InputError


def default_directory() -> str:
    """Where the files are by default. They are not removed: the catalogs of runs refer to them."""
    return str(cache_folder.cache_directory() / "images")


def store_images(examples: Iterable[tuple], directory: str) -> Iterator[tuple]:
    """Yield `(path, label, split, group)` of each example once its image is a file.

    Each copy of an image becomes another file. A copy without a split and a group gets the name of the first copy as its group,
    so it comes into the split of the first one.

    Args:
        examples: Tuples of image, label, split and group. An image is a uint8 array `(height, width)` or `(height, width,
            channels)` with 1, 3 or 4 channels, or the bytes of a file.
        directory: Where to write the files.
    """
    copies: Counter[str] = Counter()
    with ExitStack() as stack:
        scratch = cache(lambda: stack.enter_context(ScratchFolder(directory, ".part-")))
        for image, label, split, group in examples:
            digest, encode, suffix = _describe(image)
            number, first = copies[digest], f"{digest[:2]}/{digest}"
            copies[digest] += 1
            path = os.path.join(directory, first + (f"-{number}" if number else "") + suffix)
            if not (os.path.isfile(path) and os.path.getsize(path)):
                _write(path, encode(image), scratch)
            yield path, label, split, group or (first + suffix if number and not split else "")


def _describe(image: np.ndarray | bytes) -> tuple[str, Callable[[Any], bytes], str]:
    """The digest of an image, a function that gives the bytes of its file, and the suffix of the file."""
    if isinstance(image, bytes):
        known = find_format(image)
        return hashlib.sha256(image).hexdigest(), bytes, known.suffixes[0] if known else ".bin"
    digest = hashlib.sha256(repr(_squeeze_gray(image).shape).encode() + np.ascontiguousarray(image).data).hexdigest()
    return digest, _encode_png, ".png"


def _squeeze_gray(pixels: np.ndarray) -> np.ndarray:
    """Images of one channel without the channel axis."""
    return pixels[..., 0] if pixels.shape[2:] == (1,) else pixels


def _encode_png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_squeeze_gray(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _write(path: str, content: bytes, scratch: Callable[[], Path]) -> None:
    """Write a file, complete or not at all; `scratch` returns the directory to write it in first."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        part = scratch() / "image"
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        raise InputError(
            f"Images from memory are stored as files, and {path} cannot be written: {error.strerror}. Choose another directory."
        ) from None
