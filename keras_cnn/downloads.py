"""Downloads that are complete or not there, kept in the cache."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from keras_cnn import arguments
from keras_cnn.cache_folder import cache_directory, key_of, staging_folder

TIMEOUT = 30  # seconds without a byte


def download(address: str, checksum: str | None = None) -> Path:
    """The file at an address, from the cache if it has been downloaded before.

    Args:
        address: https://... or http://...
        checksum: The expected checksum, in hexadecimal digits: SHA-256, or MD5 where its publisher gives no better.

    Raises:
        FileNotFoundError: If it cannot be downloaded completely.
        ValueError: If it has another checksum.
    """
    target = cache_directory() / "downloads" / key_of(address) / file_name(address)
    if target.is_file() and (checksum is None or file_checksum(target, checksum) == checksum.lower()):
        return target
    with staging_folder(target) as folder:
        os.replace(download_to(Path(folder, target.name), address, checksum), target)
    return target


def download_to(path: Path, address: str, checksum: str | None) -> Path:
    """Download to `path`, which must be thrown away if this raises, and return `path`.

    Raises:
        FileNotFoundError, ValueError: As `download`.
    """
    if not re.match("https?://", address):
        raise ValueError(arguments.message("download", "address", "an https address", address))
    try:
        # Some servers refuse Python's default user agent.
        request = urllib.request.Request(address, headers={"User-Agent": "keras_cnn"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response, open(path, "wb") as file:
            size = response.headers.get("Content-Length")
            print(f"keras_cnn: downloading {address}" + (f", {int(size):,} bytes" if size else ""), file=sys.stderr)
            shutil.copyfileobj(response, file)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds an open connection
        raise FileNotFoundError(
            f"{address} could not be downloaded: {arguments.short_message(error)} Check the address and the connection, or get "
            "the file in another way and name it."
        ) from None
    if size and path.stat().st_size != int(size):
        raise FileNotFoundError(
            f"{address} broke off after {path.stat().st_size:,} of {int(size):,} bytes. Nothing of it is kept; try again."
        )
    found = file_checksum(path, checksum or "")
    if checksum and found != checksum.lower():
        raise ValueError(
            f"{address} must have the checksum {checksum}. Received: {found}. The file has changed, or was changed on its "
            "way; nothing of it is kept."
        )
    return path


def file_checksum(path: Path, like: str = "") -> str:
    """The checksum of a file: SHA-256 in hexadecimal digits, or MD5 if `like` has as many digits as that."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5" if len(like) == 32 else "sha256").hexdigest()


def file_name(address: str) -> str:
    """The last part of an address, as a name for a file."""
    last = [part for part in urlsplit(address).path.split("/") if part][-1:]
    return re.sub(r"[^\w.-]", "_", last[0], flags=re.ASCII).lstrip(".") or "file" if last else "file"
