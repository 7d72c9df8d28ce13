"""Images that are no files, such as rows of an array or of a TFRecord, kept as files: everything behind a catalog reads files.

An image that comes as the bytes of a file is kept as these; pixels become a PNG, which loses nothing. Why files, and not a
second kind of source behind an interface: there is one way of reading, for checks, features, training, reports, export, and
for a later run from the `catalog.csv` of this one, when the array or the data set is gone. The sources that hold millions of
images, folders and tables, are files already; only TFRecords can be as large, and they cannot be read at a row in TensorFlow
operations. The price is a copy on the disk, made once: a file is named by a digest of its content, complete when it has its
name, and not written again. Splits are drawn from that name, so that an image keeps its split wherever it stands.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from contextlib import ExitStack
from functools import cache

import numpy as np
from PIL import Image

from keras_cnn import cache_folder
from keras_cnn.scratch import ScratchFolder
from pipelines.errors import InputError

SIGNS = ((b"\xff\xd8", ".jpg"), (b"\x89PNG", ".png"), (b"GIF8", ".gif"), (b"BM", ".bmp"), (b"RIFF", ".webp"))


def default_folder() -> str:
    """Where the files lie if nothing else is asked for. They stay there: catalogs of runs name them."""
    return str(cache_folder.cache_directory() / "images")


def keep(examples, folder):
    """Yield `(path, label, split, group)` of examples once they are files.

    Args:
        examples: Tuples of image, label, split and group. An image is a uint8 array `(height, width)` or `(height, width,
            channels)` with 1, 3 or 4 channels, or the bytes of a file.
        folder: Where the files are to lie.

    Copies of an image are files of their own. Without a split and a group they get the first one's name as their group: drawn
    by its name too, they come into its split.
    """
    copies = Counter()
    with ExitStack() as stack:
        scratch = cache(lambda: stack.enter_context(ScratchFolder(folder, ".part-")))
        for image, label, split, group in examples:
            digest, encode, ending = _told(image)
            number, first = copies[digest], f"{digest[:2]}/{digest}"
            copies[digest] += 1
            path = os.path.join(folder, first + (f"-{number}" if number else "") + ending)
            if not (os.path.isfile(path) and os.path.getsize(path)):
                _write(path, encode(image), scratch)
            yield path, label, split, group or (first + ending if number and not split else "")


def _told(image):
    """The digest of an image, what makes a file of it, and the ending of that."""
    if isinstance(image, bytes):
        ending = next((ending for sign, ending in SIGNS if image.startswith(sign)), ".bin")
        return hashlib.sha256(image).hexdigest(), bytes, ending
    digest = hashlib.sha256(repr(_plain(image).shape).encode() + np.ascontiguousarray(image).data).hexdigest()
    return digest, _png, ".png"


def _plain(pixels):
    """Gray images without an axis for the one channel."""
    return pixels[..., 0] if pixels.shape[2:] == (1,) else pixels


def _png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(_plain(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _write(path, content, scratch):
    """Put a file in place, complete or not at all; `scratch` gives the folder to make it in."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        part = scratch() / "image"
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        raise InputError(
            f"Images that are no files are kept as files, and {path} cannot be written: {error.strerror}. Name another folder."
        ) from None
