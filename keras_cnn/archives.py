"""Unpacking archives from untrusted sources."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

MAX_BYTES = 16 * 2**30  # of all files in an archive, unpacked
MAX_MEMBERS = 100_000
MAX_READ = 64 * 2**20  # of an archive's own tables, which are read into memory


def unpack(archive: Path, directory: Path) -> None:
    """Unpack a `.tar` or `.tar.gz` file of folders and plain files, and nothing else, into an empty directory.

    Raises:
        ValueError: If the archive is damaged (all of it is read, with its checksum if it is compressed), holds a link, a
            device or a path that leads out of `directory`, or is larger than 16 GiB or 100,000 members. The caller removes
            what was unpacked until then.
    """
    try:
        with _open(archive) as file, tarfile.open(fileobj=file, mode="r:") as members:
            left, count = MAX_BYTES, 0
            for member in members:
                count, left = count + 1, left - abs(member.size)
                if count > MAX_MEMBERS or left < 0:
                    _refuse(archive, f"has more than {MAX_MEMBERS:,} members or {MAX_BYTES:,} bytes")
                _extract(members, member, directory, archive)
            _check_end(file, members.offset)
    except (tarfile.TarError, zlib.error, EOFError, OSError, RecursionError) as error:
        _refuse(archive, f"is not a complete .tar or .tar.gz file ({error})")


def _open(archive):
    with open(archive, "rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return _Gzip(archive) if compressed else open(archive, "rb")


class _Gzip(gzip.GzipFile):
    """A compressed file that is never read into memory as a whole, however large its tables say they are."""

    def read(self, size: int | None = -1) -> bytes:
        """As in `gzip.GzipFile`, up to MAX_READ bytes."""
        if size is None or not 0 <= size <= MAX_READ:
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
    """Raise unless the archive ends at `position` as complete ones do: with blocks of zeros, and nothing after them.

    `tarfile` takes a damaged header for the end. And the checksum of a compressed file is its last part, so it is checked
    only when the whole file is read.
    """
    file.seek(position)
    size = 0
    while chunk := file.read(tarfile.RECORDSIZE):
        size += len(chunk)
        if chunk.strip(b"\0") or size > MAX_READ:
            raise tarfile.TarError("something else stands where its next file or its end should be")
    if size < 2 * tarfile.BLOCKSIZE or size % tarfile.BLOCKSIZE:
        raise tarfile.TarError("its end is missing")


def _refuse(archive, reason):
    raise ValueError(f"unpack: the archive {archive.name} {reason}. Nothing of it is used; get it again.") from None
