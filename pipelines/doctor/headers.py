"""The format, size and traits of an image file, read with Pillow from its first bytes."""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from PIL import Image

from keras_cnn import images
from keras_cnn.images import formats

HEAD = 2**16  # bytes; if a header is longer, the file is opened again
# The formats that can be decoded, as named by Pillow.
BY_PILLOW_NAME = {name: each for each in formats.FORMATS for name in each.pillow_names}
FORMATS = tuple(BY_PILLOW_NAME)
ANIMATED, CMYK, DEEP, TRANSPARENT, ROTATED = TRAITS = ("animated", "CMYK", "16-bit", "transparent", "rotated")


@dataclass(frozen=True)
class Header:
    """The header of an image file.

    Attributes:
        format: As named by Pillow, such as "JPEG".
        width: In pixels, of the upright image.
        height: In pixels, of the upright image.
        traits: Those of `TRAITS` that the image has.
    """

    format: str
    width: int
    height: int
    traits: frozenset[str]


def read_header(path: str, head: bytes | None = None, orientation: int | None = None) -> Header | None:
    """The header of an image file, None if Pillow cannot read it.

    Args:
        path: The file.
        head: Its first bytes, so that the file is not opened again.
        orientation: The EXIF orientation that the decoder applies, 1 to 8; None to ask the decoder. Pillow is not asked, so the
            header agrees with the decoded image.
    """
    # Only the bytes after the first frame show whether a GIF or WebP file is animated.
    sources = (path,) if head is None or head[:4] in (b"GIF8", b"RIFF") else (io.BytesIO(head), path)
    for source in sources:
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(source) as image:
                return _describe(image, orientation or _orientation(path))
        except Exception:  # Pillow raises many kinds of errors for damaged files
            continue
    return None


def _orientation(path: str) -> int:
    return int(images.read_orientation(tf.io.read_file(os.fsencode(path))))


def _describe(image: Any, orientation: int) -> Header:
    width, height = image.size if orientation < 5 else image.size[::-1]
    has_trait = {
        ANIMATED: image.format != "MPO" and getattr(image, "is_animated", False),
        CMYK: image.mode == "CMYK",
        DEEP: any("16" in str(tile.args) for tile in image.tile),
        TRANSPARENT: image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info,
        ROTATED: orientation > 1,
    }
    return Header(image.format, width, height, frozenset(trait for trait, has in has_trait.items() if has))
