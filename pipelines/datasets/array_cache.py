"""Arrays that take long to compute, kept on disk from one job to the next."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import warnings
import zlib
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from keras_cnn import durable, fetching, scratch
from pipelines.errors import InputError

LIMIT = 20 * 2**30  # bytes
RESERVE = 2**30  # bytes of the disk that are left to others
STAGING = ".staging-"
ENTRY = "[0-9a-f]" * 64
BLOCK = 2**24
NOWHERE = Path("~/.cache/keras_cnn")  # as a name in messages; never expanded


class NoRoomError(InputError):
    """An array that fits neither into the cache nor into memory."""


def digest(*parts) -> str:
    """A name for all that an array is computed from: the same for equal parts, and for no others.

    Args:
        parts: Text, numbers, None, and lists, tuples and dicts of such.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, allow_nan=False).encode()).hexdigest()


def stamps(paths) -> list[tuple]:
    """Path, size and times of change of each file: they differ once it is written to, replaced or moved.

    The content is not read. One of the times (ctime) is kept by the system alone and tells of a file whose date was set back.

    Raises:
        OSError: With the name of a file that is missing.
    """
    found = ((os.path.abspath(path), os.stat(path)) for path in paths)
    return [(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for path, stat in found]


class Cache:
    """Arrays on disk, each under a digest of what it was computed from; the least recently used make room.

    Several processes may use one directory. An entry is a folder with `array.npy` and its size and checksum; it is made
    under another name, so that what a killed job leaves behind is never taken for complete.

    Args:
        directory: Where to keep the entries; None: `$KERAS_CNN_CACHE`, or `~/.cache/keras_cnn`; a user without a home keeps
            none.
        limit: Bytes that all entries together may take.
    """

    def __init__(self, directory=None, limit: int = LIMIT):
        self.directory, self.limit, self._warned = _place(directory), limit, False

    def array(self, key: str, shape, dtype, fill) -> np.ndarray:
        """The array of a key: from the disk if it is there undamaged, otherwise computed and kept.

        If it cannot be kept (limit, full disk, no permission) it is computed in memory, the first time with a warning.

        Args:
            key: A `digest` of everything that the values depend on.
            shape: Of the array.
            dtype: Of the array.
            fill: Called with a writable array to write the values into. Nothing is kept if it raises.

        Returns:
            The array, wherever possible mapped from the disk as it is needed. What one writes to it stays with oneself.

        Raises:
            NoRoomError: If it fits neither into the cache nor into a quarter of the machine's memory.
        """
        folder = self._where / digest(key, list(shape), np.dtype(dtype).str)
        array = _load(folder)
        if array is not None:
            return array
        with ExitStack() as stack:
            try:
                staging = stack.enter_context(self._staging(_bytes(shape, dtype)))
                array = _allocate(staging / "array.npy", shape, dtype)
            except OSError as error:
                staging, array = None, self._in_memory(shape, dtype, error)
            fill(array)
            return array if staging is None else self._publish(staging, folder, array)

    @contextmanager
    def _staging(self, size):
        """A folder for one entry in the making, with room for `size` bytes; gone at the end if it was not renamed."""
        if self.directory is None:
            raise OSError(errno.ENOENT, "there is no home directory")
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._locked():
            scratch.sweep(self.directory, STAGING)  # what it frees counts
            self._make_room(size)
            folder = scratch.ScratchFolder(self.directory, STAGING)
        with folder as path:
            yield path

    @contextmanager
    def _locked(self):
        """One process at a time."""
        with durable.locked(self.directory / ".lock"):
            yield

    def _make_room(self, size):
        """Remove the least recently used entries until `size` more bytes are within the limit and on the disk."""
        files = [(path.stat(), path) for path in self.directory.glob(ENTRY + "/array.npy")]
        entries = sorted((stat.st_mtime_ns, stat.st_size, path.parent) for stat, path in files)
        total = sum(taken for _, taken, _ in entries)
        free = shutil.disk_usage(self.directory).free - RESERVE
        if size > self.limit:
            raise OSError(errno.EFBIG, f"the cache is limited to {_gib(self.limit)}")
        if size > total + free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room = min(self.limit, total + free) - size
        for _, taken, folder in entries:
            if total <= room:
                break
            self._remove(folder)
            total -= taken

    def _remove(self, folder):
        """Remove an entry; nobody sees half of it. A process that has mapped it goes on reading."""
        doomed = Path(tempfile.mkdtemp(prefix=STAGING, dir=self.directory))
        os.rename(folder, doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def _publish(self, staging, folder, array):
        """Give a complete entry its name, in place of what is there, and its array as it is found later."""
        try:
            (staging / "entry.json").write_text(json.dumps(_describe(staging / "array.npy")))
            array = _map(staging / "array.npy")
            with self._locked():
                if folder.exists():
                    self._remove(folder)
                os.rename(staging, folder)
        except OSError as error:
            self._warn(array.nbytes, error)
        return array

    @property
    def _where(self):
        return self.directory or NOWHERE

    def _in_memory(self, shape, dtype, error):
        size = _bytes(shape, dtype)
        if size > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 4:
            raise NoRoomError(
                f"{_gib(size)} cannot be kept in {self._where}: {error.strerror}; and memory is too small for it. "
                "Make room there, or name another folder in KERAS_CNN_CACHE."
            ) from None
        self._warn(size, error)
        return np.empty(shape, dtype)

    def _warn(self, size, error):
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{_gib(size)} cannot be kept in {self._where} for the next job: {error.strerror}. "
                "Make room there, or name another folder in KERAS_CNN_CACHE.",
                stacklevel=4,
            )


def _place(directory):
    """The folder of a cache, None where there is no home to have it in."""
    try:
        return Path(directory or fetching.cache()).expanduser()
    except (RuntimeError, ValueError):
        return None


def _load(folder):
    """The array of an entry, None where there is none or it is damaged."""
    try:
        path = folder / "array.npy"
        if json.loads((folder / "entry.json").read_text()) != _describe(path):
            return None
        with suppress(OSError):  # of another user, or on a disk that cannot be written
            os.utime(path)  # the most recently used one from now on
        return _map(path)
    except (OSError, ValueError):
        return None


def _map(path):
    # Copy on write. TensorFlow shares no memory that cannot be written to, but would copy it.
    return np.load(path, mmap_mode="c")


def _describe(path):
    """Size and CRC-32 of a file."""
    checksum = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            checksum = zlib.crc32(block, checksum)
        return {"bytes": file.tell(), "crc32": checksum}


def _allocate(path, shape, dtype):
    """A new array in a file whose room on the disk is taken beforehand: a full disk is an error here, a crash later."""
    array = np.lib.format.open_memmap(path, "w+", dtype, tuple(shape))
    if hasattr(os, "posix_fallocate"):  # macOS has none
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _bytes(shape, dtype):
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def _gib(size):
    return f"{size / 2**30:.1f} GiB"
