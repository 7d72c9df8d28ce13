"""From the handle of a SavedModel, such as an address or a model of Kaggle, to its directory."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from keras_cnn import arguments
from keras_cnn.archives import unpack
from keras_cnn.cache_folder import cache_directory, key_of, staging_folder
from keras_cnn.downloads import download_to, file_checksum, file_name

KAGGLE = re.compile(
    r"(?:kaggle:|https?://(?:www\.)?kaggle\.com/models/)?"
    r"([\w.-]+/[\w.-]+)/(?:frameworks/)?(tensorflow[12]?)/(?:variations/)?([\w.-]+)(?:/(?:versions/)?(\d+))?/?",
    re.ASCII | re.IGNORECASE,
)


def saved_model_directory(handle: str | os.PathLike, checksum: str | None = None) -> Path:
    """The directory that holds the `saved_model.pb` of a handle, downloaded and unpacked if necessary.

    Args:
        handle: A directory; a `.tar.gz` or `.tar` file; an address (https://tfhub.dev/..., or of such a file); a model of
            Kaggle, "OWNER/MODEL/tensorFlow2/VARIATION" with or without "/VERSION", or its address (by `kagglehub`).
        checksum: As in `keras_cnn.downloads.download`, of the file at an address. None: not checked.

    Raises:
        FileNotFoundError: If there is nothing of that name, or it cannot be downloaded.
        ValueError: If it is not a SavedModel, or an archive that is damaged or unsafe.
    """
    text = os.fspath(handle)
    path = Path(text).expanduser()
    if path.is_dir():
        return _saved_model_in(path, text)
    if path.is_file():
        return _saved_model_in(_unpacked(f"{path.stem} {file_checksum(path)}", lambda part: path), text)
    if match := KAGGLE.fullmatch(text):
        return _saved_model_in(_from_kaggle("/".join(filter(None, match.groups()))), text)
    if "://" in text:
        address = _compressed(text)
        description = f"{file_name(text)} {address} {checksum}"
        return _saved_model_in(_unpacked(description, lambda part: download_to(part, address, checksum)), text)
    expected = "an existing folder or .tar.gz file, an https address, or OWNER/MODEL/tensorFlow2/VARIATION of Kaggle"
    raise FileNotFoundError(arguments.message("saved_model_directory", "handle", expected, text))


def _unpacked(description: str, get_archive: Callable[[Path], Path]) -> Path:
    """The directory in the cache with the content of an archive; `get_archive` is called only if it is not there yet.

    Args:
        description: A name, a space, and what tells the archive from others.
        get_archive: A function of the path where a download may be put, which returns the path of the archive.
    """
    name, _, rest = description.partition(" ")
    target = cache_directory() / "saved_models" / f"{name[:60]}-{key_of(rest)}"
    if target.is_dir():
        return target
    with staging_folder(target) as folder:
        content = Path(folder, ".content")
        content.mkdir()
        unpack(get_archive(Path(folder, name)), content)
        try:
            os.rename(content, target)
        except OSError:  # another process was faster
            if not target.is_dir():
                raise
    return target


def _saved_model_in(directory, handle):
    """`directory`, or the one directory in it, that holds a SavedModel."""
    found = [path.parent for pattern in ("", "*/") for path in directory.glob(f"{pattern}saved_model.pb*")]
    if not found:
        expected = "a SavedModel: a folder, or an archive of one, with a file saved_model.pb"
        raise ValueError(arguments.message("saved_model_directory", "handle", expected, handle))
    if found[0] != directory and len(found) > 1:
        expected = f"one SavedModel, not the folder of {len(found)}, such as {sorted(found)[-1]}"
        raise ValueError(arguments.message("saved_model_directory", "handle", expected, handle))
    return found[0]


def _from_kaggle(handle):
    try:
        import kagglehub
    except ImportError:
        raise FileNotFoundError(
            f"Models of Kaggle are downloaded by kagglehub, which is not installed. Received: {handle!r}. "
            "pip install kagglehub, or download the model in a browser and name the .tar.gz file."
        ) from None
    try:
        return Path(kagglehub.model_download(handle))
    except Exception as error:  # kagglehub raises its own classes, and those of its libraries
        raise FileNotFoundError(
            f"kagglehub could not download {handle!r}: {arguments.short_message(error)} "
            "Check the handle and the connection, or download the model in a browser and name the .tar.gz file."
        ) from None


def _compressed(address):
    """The address of the archive: TF Hub sends a web page unless the query asks for it."""
    parts = urlsplit(address)
    if parts.hostname != "tfhub.dev" or parts.query:
        return address
    return parts._replace(query="tf-hub-format=compressed").geturl()
