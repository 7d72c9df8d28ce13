"""What an image file says of itself, read with Pillow from its first bytes."""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass

import tensorflow as tf
from PIL import Image

from keras_cnn.images import formats
from keras_cnn.images.decoding import read_orientation

HEAD = 2**16  # bytes; where a header is longer, the file is opened again
# The formats that are decoded, by the names that Pillow gives them.
BY_PILLOW_NAME = {name: each for each in formats.FORMATS for name in each.pillow_names}
FORMATS = tuple(BY_PILLOW_NAME)
ANIMATED, CMYK, DEEP, TRANSPARENT, ROTATED = TRAITS = ("animated", "CMYK", "16-bit", "transparent", "rotated")


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        format: As Pillow calls it, such as "JPEG".
        width: In pixels, as it is seen.
        height: The same.
        traits: Those of `TRAITS` that it has.
    """

    format: str
    width: int
    height: int
    traits: frozenset[str]


def header(path: str, head: bytes | None = None, orientation: int | None = None) -> Header | None:
    """The header of an image file, None where Pillow knows none.

    Args:
        path: The file.
        head: Its first bytes, so that it need not be opened again.
        orientation: In which the decoder shows it, 1 to 8; None to ask the decoder. Nobody else is asked, so that what is said
            is what is seen.
    """
    # Whether a GIF or WebP file moves stands behind its first picture.
    sources = (path,) if head is None or head[:4] in (b"GIF8", b"RIFF") else (io.BytesIO(head), path)
    for source in sources:
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(source) as image:
                return _described(image, orientation or _orientation(path))
        except Exception:  # Pillow raises errors of many kinds at damaged files
            continue
    return None


def _orientation(path):
    return int(read_orientation(tf.io.read_file(os.fsencode(path))))


def _described(image, orientation):
    width, height = image.size if orientation < 5 else image.size[::-1]
    found = {
        ANIMATED: image.format != "MPO" and getattr(image, "is_animated", False),
        CMYK: image.mode == "CMYK",
        DEEP: any("16" in str(tile.args) for tile in image.tile),
        TRANSPARENT: image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info,
        ROTATED: orientation > 1,
    }
    return Header(image.format, width, height, frozenset(trait for trait, holds in found.items() if holds))
