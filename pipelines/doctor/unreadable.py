"""The reason why a file cannot be used as an image, as a short text."""

from __future__ import annotations

import os
from pathlib import Path

import tensorflow as tf

from keras_cnn import Preprocessing, images
from pipelines.catalog.kinds import decoded_format, foreign_format, reason_for_format
from pipelines.doctor.headers import BY_PILLOW_NAME, read_header

TOO_LARGE = "must have at most"  # in the messages of `keras_cnn.images.checks`, before anything is decoded


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


def _from_content(path: str, content: bytes) -> str:
    """The reason from Pillow or from the bytes of the file, "" if they do not show it."""
    header = read_header(path)
    name = header.format if header else foreign_format(content) or _by_first_bytes(content)
    if name and name not in BY_PILLOW_NAME:
        return reason_for_format(name)
    truncated = name and BY_PILLOW_NAME[name].is_truncated(content)
    return f"a truncated {name} file: its end is missing" if truncated else ""


def _by_first_bytes(content: bytes) -> str:
    """The name of the format, "" if none is known: Pillow may need more of the header than the file has."""
    known = decoded_format(content)
    return known.pillow_names[0] if known else "PDF" * (b"%PDF" in content[:12])


def _shorten(text: str) -> str:
    """The first line of a TensorFlow error, without its prefix and at most 160 characters long."""
    text = text.split("}} ")[-1].split(" [Op:")[0].splitlines()[0]
    return text if len(text) <= 160 else text[:159] + "…"
