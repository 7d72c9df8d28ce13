"""The reason why a file cannot be used as an image, as a short text."""

from __future__ import annotations

import os
from pathlib import Path

import tensorflow as tf

from keras_cnn import Preprocessing, images
from pipelines.catalog.kinds import foreign_format, reason_for_format
from pipelines.doctor.headers import FORMATS, read_header

TOO_LARGE = "must have at most"  # in the messages of `keras_cnn.images.checks`, before anything is decoded
# Among the first twelve bytes of files that Pillow cannot identify: too short for a header, or of an unknown format.
SIGNATURES = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG", "GIF": b"GIF8", "WEBP": b"WEBP", "PDF": b"%PDF"}


def why_unreadable(path: str, preprocessing: Preprocessing) -> str:
    """The reason why a file cannot be used."""
    if not os.path.exists(path):
        return "a file that does not exist any more"
    if os.path.getsize(path) == 0:
        return "an empty file"
    try:
        images.prepare(tf.io.read_file(os.fsencode(path)), preprocessing)
    except tf.errors.InvalidArgumentError as error:
        reason = _shorten(error.message)
        if TOO_LARGE in error.message:
            return f"an image that is too large: {reason}"
        return _from_content(path, Path(path).read_bytes()) or f"not an image that can be decoded: {reason}"
    except tf.errors.OpError as error:
        return f"a file that cannot be read: {_shorten(error.message)}"
    return "a file that could not be read before, but can be read now"


def _from_content(path, content):
    """The reason from Pillow or from the bytes of the file, "" if they do not show it."""
    header = read_header(path)
    by_signature = next((name for name, signature in SIGNATURES.items() if signature in content[:12]), "")
    name = header.format if header else foreign_format(content) or by_signature
    if name and name not in FORMATS:
        return reason_for_format(name)
    return f"a truncated {name} file: its end is missing" if name and _is_truncated(name, content) else ""


def _is_truncated(name, content):
    """Whether a file ends too early for its format; only for files that cannot be decoded."""
    ends = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b";"}
    if name in ends:
        return not content.rstrip(b"\0").endswith(ends[name])
    size = {"WEBP": content[4:8], "BMP": content[2:6]}[name]
    return len(content) < int.from_bytes(size, "little")


def _shorten(text):
    """The first line of a TensorFlow error, without its prefix and at most 160 characters long."""
    text = text.split("}} ")[-1].split(" [Op:")[0].splitlines()[0]
    return text if len(text) <= 160 else text[:159] + "…"
