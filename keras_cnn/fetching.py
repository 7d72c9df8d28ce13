"""Files from elsewhere: downloaded whole or not at all, unpacked without trust, kept in a cache.

The cache is the folder that the environment variable KERAS_CNN_CACHE names, or else ~/.cache/keras_cnn. What lies in it
under its final name is complete: everything is written beside it and renamed when it is checked.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import re
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from keras_cnn import arguments
from keras_cnn.scratch import ScratchFolder

MOST_BYTES = 16 * 2**30  # in an archive, unpacked
MOST_MEMBERS = 100_000
MOST_AT_ONCE = 64 * 2**20  # of an archive's own tables, which are read into memory
TIMEOUT = 30  # seconds without a byte
KAGGLE = re.compile(
    r"(?:kaggle:|https?://(?:www\.)?kaggle\.com/models/)?"
    r"([\w.-]+/[\w.-]+)/(?:frameworks/)?(tensorflow[12]?)/(?:variations/)?([\w.-]+)(?:/(?:versions/)?(\d+))?/?",
    re.ASCII | re.IGNORECASE,
)


def cache() -> Path:
    """The folder where downloads and unpacked archives are kept; it need not exist yet. ValueError if there is no home."""
    try:
        return Path(os.environ.get("KERAS_CNN_CACHE") or "~/.cache/keras_cnn").expanduser()
    except RuntimeError:
        raise ValueError(
            "The cache must lie in a home directory, or where the environment variable KERAS_CNN_CACHE says. Received: a user "
            "without a home directory. Name a folder by KERAS_CNN_CACHE."
        ) from None


def saved_model_directory(handle, checksum: str | None = None) -> Path:
    """The folder that holds the `saved_model.pb` of a handle, downloaded and unpacked if need be.

    Args:
        handle: A folder; a `.tar.gz` or `.tar` file; an address (https://tfhub.dev/..., or of such a file); a model of
            Kaggle, "OWNER/MODEL/tensorFlow2/VARIATION" with or without "/VERSION", or its address (by `kagglehub`).
        checksum: As in `download`, of the file behind an address. None: not checked.

    Raises:
        FileNotFoundError: If there is nothing of that name, or it cannot be downloaded.
        ValueError: If what is there is no SavedModel, or an archive that is damaged or not harmless.
    """
    text = os.fspath(handle)
    path = Path(text).expanduser()
    if path.is_dir():
        return _saved_model_in(path, text)
    if path.is_file():
        return _saved_model_in(_unpacked(f"{path.stem} {digest(path)}", lambda part: path), text)
    if match := KAGGLE.fullmatch(text):
        return _saved_model_in(_from_kaggle("/".join(filter(None, match.groups()))), text)
    if "://" in text:
        address = _compressed(text)
        archive = _unpacked(f"{_file_name(text)} {address} {checksum}", lambda part: _fetch(address, part, checksum))
        return _saved_model_in(archive, text)
    expected = "an existing folder or .tar.gz file, an https address, or OWNER/MODEL/tensorFlow2/VARIATION of Kaggle"
    raise FileNotFoundError(arguments.message("saved_model_directory", "handle", expected, text))


def download(address: str, checksum: str | None = None) -> Path:
    """The file behind an address, from the cache if it has been downloaded before.

    Args:
        address: https://... or http://...
        checksum: What the file must have, in hexadecimal digits: SHA-256, or MD5 where its publisher gives no better.

    Raises:
        FileNotFoundError: If it cannot be had whole.
        ValueError: If it has another checksum.
    """
    target = cache() / "downloads" / _key(address) / _file_name(address)
    if target.is_file() and (checksum is None or digest(target, checksum) == checksum.lower()):
        return target
    with _workshop(target) as folder:
        os.replace(_fetch(address, Path(folder, target.name), checksum), target)
    return target


def digest(path: Path, like: str = "") -> str:
    """The checksum of a file: SHA-256 in hexadecimal digits, or MD5 if `like` has as many digits as that."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5" if len(like) == 32 else "sha256").hexdigest()


def unpack(archive: Path, directory: Path) -> None:
    """Unpack a `.tar` or `.tar.gz` file of folders and plain files, and nothing else, into an empty folder.

    Raises:
        ValueError: If the archive is damaged (all of it is read, with its checksum if it is compressed), holds a link, a
            device or a path that leads out of `directory`, or is larger than 16 GiB or 100,000 members. What was unpacked
            until then is left to the caller.
    """
    try:
        with _opened(archive) as file, tarfile.open(fileobj=file, mode="r:") as members:
            left, count = MOST_BYTES, 0
            for member in members:
                count, left = count + 1, left - abs(member.size)
                if count > MOST_MEMBERS or left < 0:
                    _refuse(archive, f"has more than {MOST_MEMBERS:,} members or {MOST_BYTES:,} bytes")
                _extract(members, member, directory, archive)
            _check_end(file, members.offset)
    except (tarfile.TarError, zlib.error, EOFError, OSError, RecursionError) as error:
        _refuse(archive, f"is no whole .tar or .tar.gz file ({error})")


def in_short(error: Exception) -> str:
    """What an error of another library says, as one sentence to quote."""
    # Keras prints in bold, and lists what its layers were called with.
    text = re.sub("\x1b\\[[0-9;]*m", "", str(error)).split("Arguments received by ")[0]
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) < 300 and text.endswith(".") else text[:300].rstrip(".") + "."


def _opened(archive):
    with open(archive, "rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return _Gzip(archive) if compressed else open(archive, "rb")


class _Gzip(gzip.GzipFile):
    """A compressed file that is never read into memory as a whole, however large its tables say they are."""

    def read(self, size=-1):
        if size is None or not 0 <= size <= MOST_AT_ONCE:
            raise OSError("its tables are too large")
        return super().read(size)


def _extract(members, member, directory, archive):
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name or "\0" in member.name:
        _refuse(archive, f"holds {member.name!r}, a path that leads out of it")
    if member.isdir():
        (directory / name).mkdir(parents=True, exist_ok=True)
    elif member.isreg() and not member.issparse():
        (directory / name.parent).mkdir(parents=True, exist_ok=True)
        with members.extractfile(member) as source, open(directory / name, "xb") as target:
            shutil.copyfileobj(source, target)
    else:
        _refuse(archive, f"holds {member.name!r}, which is neither a plain file nor a folder")


def _check_end(file, position):
    """Raise unless the archive ends at `position` as whole ones do: with blocks of zeros, and nothing after them.

    `tarfile` takes a damaged header for the end. And the checksum of a compressed file is its last part, so that it counts
    only where all of the file is read.
    """
    file.seek(position)
    size = 0
    while chunk := file.read(tarfile.RECORDSIZE):
        size += len(chunk)
        if chunk.strip(b"\0") or size > MOST_AT_ONCE:
            raise tarfile.TarError("something else stands where its next file or its end should be")
    if size < 2 * tarfile.BLOCKSIZE or size % tarfile.BLOCKSIZE:
        raise tarfile.TarError("its end is missing")


def _refuse(archive, reason):
    raise ValueError(f"unpack: the archive {archive.name} {reason}. Nothing of it is used; get it anew.") from None


def _unpacked(description, get_archive):
    """The folder in the cache with the content of an archive, which is only asked for if it is not there yet.

    `get_archive` is a function of the path where a download may be put, and gives the path of the archive.
    """
    name, _, rest = description.partition(" ")
    target = cache() / "saved_models" / f"{name[:60]}-{_key(rest)}"
    if target.is_dir():
        return target
    with _workshop(target) as folder:
        content = Path(folder, ".content")
        content.mkdir()
        unpack(get_archive(Path(folder, name)), content)
        try:
            os.rename(content, target)
        except OSError:  # another process was faster
            if not target.is_dir():
                raise
    return target


def _workshop(target):
    """Context manager of a new folder beside `target`, where it is made before it is renamed."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return ScratchFolder(target.parent, ".part-")
    except OSError as error:
        raise ValueError(
            f"The cache {cache()} cannot be written: {in_short(error)} Name another folder by the environment variable "
            "KERAS_CNN_CACHE."
        ) from None


def _saved_model_in(directory, handle):
    """`directory`, or the one folder in it, that holds a SavedModel."""
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
    except Exception as error:  # it has kinds of its own, and those of the libraries it is made of
        raise FileNotFoundError(
            f"kagglehub could not download {handle!r}: {in_short(error)} "
            "Check the handle and the connection, or download the model in a browser and name the .tar.gz file."
        ) from None


def _compressed(address):
    """TF Hub gives the archive, and not a page about it, when it is asked this way."""
    parts = urlsplit(address)
    if parts.hostname != "tfhub.dev" or parts.query:
        return address
    return parts._replace(query="tf-hub-format=compressed").geturl()


def _fetch(address, path, checksum):
    """Download to `path`, which must be thrown away if this raises; gives `path`."""
    if not re.match("https?://", address):
        raise ValueError(arguments.message("download", "address", "an https address", address))
    try:
        # Some servers turn the name away under which Python introduces itself.
        request = urllib.request.Request(address, headers={"User-Agent": "keras_cnn"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response, open(path, "wb") as file:
            size = response.headers.get("Content-Length")
            print(f"keras_cnn: downloading {address}" + (f", {int(size):,} bytes" if size else ""), file=sys.stderr)
            shutil.copyfileobj(response, file)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the answer too, with an open connection
        raise FileNotFoundError(
            f"{address} could not be downloaded: {in_short(error)} Check the address and the connection, or get the file "
            "in another way and name it."
        ) from None
    if size and path.stat().st_size != int(size):
        raise FileNotFoundError(
            f"{address} broke off after {path.stat().st_size:,} of {int(size):,} bytes. Nothing of it is kept; try again."
        )
    found = digest(path, checksum or "")
    if checksum and found != checksum.lower():
        raise ValueError(
            f"{address} must have the checksum {checksum}. Received: {found}. The file has changed, or was changed on its "
            "way; nothing of it is kept."
        )
    return path


def _key(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _file_name(address):
    """The last part of an address, as a name for a file."""
    last = [part for part in urlsplit(address).path.split("/") if part][-1:]
    return re.sub(r"[^\w.-]", "_", last[0], flags=re.ASCII).lstrip(".") or "file" if last else "file"
