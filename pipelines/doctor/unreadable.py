"""Why a file is no image that a network can see, as a short text."""

from __future__ import annotations

import os
from pathlib import Path

import tensorflow as tf

from keras_cnn import images
from pipelines.catalog.kinds import decoded_format, foreign_format, undecodable
from pipelines.doctor.headers import BY_PILLOW_NAME, header

LIMITED = "must have at most"  # so say `keras_cnn.images.checks`, before anything is decoded


def why_unreadable(path: str, preprocessing) -> str:
    """The reason why a file cannot be used."""
    if not os.path.exists(path):
        return "a file that has gone meanwhile"
    if os.path.getsize(path) == 0:
        return "an empty file"
    try:
        images.prepare(tf.io.read_file(os.fsencode(path)), preprocessing)
    except tf.errors.InvalidArgumentError as error:
        if LIMITED in error.message:
            return "an image that is too large: " + _sentence(error.message)
        return _of_content(path, Path(path).read_bytes()) or "no image that can be decoded: " + _sentence(error.message)
    except tf.errors.OpError as error:
        return "a file that cannot be read: " + _sentence(error.message)
    return "a file that could not be read at first; it can be now"


def _of_content(path, content):
    """What Pillow or the last bytes tell, "" if nothing."""
    found = header(path)
    kind = found.format if found else foreign_format(content) or _by_first_bytes(content)
    if kind and kind not in BY_PILLOW_NAME:
        return undecodable(kind)
    truncated = kind and BY_PILLOW_NAME[kind].is_truncated(content)
    return f"a truncated {kind} file: its end is missing" if truncated else ""


def _by_first_bytes(content):
    """The name of the format, "" if none is known: the rest may not even be enough for a header that Pillow reads."""
    known = decoded_format(content)
    return known.pillow_names[0] if known else "PDF" * (b"%PDF" in content[:12])


def _sentence(text):
    text = text.split("}} ")[-1].split(" [Op:")[0].splitlines()[0]
    return text if len(text) <= 160 else text[:159] + "…"
