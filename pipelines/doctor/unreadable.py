"""Why a file is no image that a network can see, as a short text."""

from __future__ import annotations

import os
from pathlib import Path

import tensorflow as tf

from keras_cnn import images
from pipelines.catalog.kinds import foreign_format, reason_for_format
from pipelines.doctor.headers import FORMATS, header

LIMITED = "must have at most"  # so say `keras_cnn.images.checks`, before anything is decoded
# Among the first twelve bytes, where the rest is not even enough for a header, or is of a format unknown to Pillow.
WORDS = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG", "GIF": b"GIF8", "WEBP": b"WEBP", "PDF": b"%PDF"}


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
    known = next((kind for kind, word in WORDS.items() if word in content[:12]), "")
    kind = found.format if found else foreign_format(content) or known
    if kind and kind not in FORMATS:
        return reason_for_format(kind)
    return f"a truncated {kind} file: its end is missing" if kind and _truncated(kind, content) else ""


def _truncated(kind, content):
    """Whether a file ends before its format says; only for files that cannot be decoded."""
    ends = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b";"}
    if kind in ends:
        return not content.rstrip(b"\0").endswith(ends[kind])
    size = {"WEBP": content[4:8], "BMP": content[2:6]}[kind]
    return len(content) < int.from_bytes(size, "little")


def _sentence(text):
    text = text.split("}} ")[-1].split(" [Op:")[0].splitlines()[0]
    return text if len(text) <= 160 else text[:159] + "…"
