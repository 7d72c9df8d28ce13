"""The cache: the directory that the environment variable KERAS_CNN_CACHE names, or else ~/.cache/keras_cnn.

A file under its final name in the cache is complete: everything is written next to it and renamed when it is checked.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from keras_cnn import arguments
from keras_cnn.scratch import ScratchFolder


def cache_directory() -> Path:
    """The directory where downloads and unpacked archives are kept; it need not exist yet. ValueError if there is no home."""
    try:
        return Path(os.environ.get("KERAS_CNN_CACHE") or "~/.cache/keras_cnn").expanduser()
    except RuntimeError:
        raise ValueError(
            "The cache must lie in a home directory, or where the environment variable KERAS_CNN_CACHE says. Received: a user "
            "without a home directory. Name a directory by KERAS_CNN_CACHE."
        ) from None


def key_of(text: str) -> str:
    """A name for what a text describes, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def staging_folder(target: Path) -> ScratchFolder:
    """Context manager of a new folder next to `target`, where a file or folder is completed before it is renamed.

    Raises:
        ValueError: If the cache cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return ScratchFolder(target.parent, ".part-")
    except OSError as error:
        raise ValueError(
            f"The cache {cache_directory()} cannot be written: {arguments.short_message(error)} Name another directory by the "
            "environment variable KERAS_CNN_CACHE."
        ) from None
