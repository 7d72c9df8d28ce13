"""Arrays that take long to compute, stored on disk for later jobs."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from keras_cnn import cache_folder, durable, scratch
from pipelines.errors import InputError

LIMIT = 20 * 2**30  # bytes
RESERVE = 2**30  # bytes of the disk that always stay free
STAGING = ".staging-"
ENTRY = "[0-9a-f]" * 64
BLOCK = 2**24  # bytes
DEFAULT_NAME = Path("~/.cache/keras_cnn")  # for messages; never expanded


class NoRoomError(InputError):
    """An array fits neither into the cache nor into memory."""


def digest(*parts: object) -> str:
    """A cache key: equal for equal parts, different for all others.

    Args:
        parts: Everything that an array is computed from: text, numbers, None, and lists, tuples and dicts of these.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, allow_nan=False).encode()).hexdigest()


def file_stamps(paths: Iterable[str | os.PathLike]) -> list[tuple]:
    """Path, size and times of change of each file. A stamp differs once its file is written to, replaced or moved.

    The content is not read. Only the system sets the second time (ctime), so it shows a change even if the first is set back.

    Raises:
        OSError: If a file is missing; the error has its name.
    """
    stats = ((os.path.abspath(path), os.stat(path)) for path in paths)
    return [(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for path, stat in stats]


class ArrayCache:
    """Arrays on disk, each under a digest of what it is computed from. The least recently used ones are removed first.

    Several processes may use one directory. An entry is a directory with `array.npy`, its size and its checksum. It is
    written under a temporary name and renamed when it is complete, so a killed job leaves no half-written entry.

    Args:
        directory: Where the entries are; None: `$KERAS_CNN_CACHE`, or `~/.cache/keras_cnn`. Without a home directory
            nothing is stored.
        limit: Bytes that all entries together may take.
    """

    def __init__(self, directory: str | os.PathLike | None = None, limit: int = LIMIT):
        self.directory = _directory_or_none(directory)
        self.limit = limit
        self._warned = False

    def get(self, key: str, shape: Sequence[int], dtype: npt.DTypeLike) -> np.ndarray | None:
        """The stored array of a key, mapped from the disk; None if there is none or it is damaged.

        Changes to the array stay in memory: other readers do not see them.
        """
        return _load(self._entry_path(key, shape, dtype))

    def get_or_compute(
        self, key: str, shape: Sequence[int], dtype: npt.DTypeLike, fill: Callable[[np.ndarray], None]
    ) -> np.ndarray:
        """The array of a key: from the disk if it is there undamaged, otherwise computed and stored.

        Args:
            key: A `digest` of everything that the values depend on.
            shape: Of the array.
            dtype: Of the array.
            fill: Writes the values into the array that it is given. If it raises, nothing is stored.

        Returns:
            The array, mapped from the disk where possible. Changes to it stay in memory: other readers do not see them.

        Raises:
            NoRoomError: If the array fits neither into the cache nor into a quarter of the machine's memory.
        """
        stored = self.get(key, shape, dtype)
        if stored is not None:
            return stored
        with self.create(key, shape, dtype) as entry:
            fill(entry.array)
            return entry.publish()

    @contextmanager
    def create(self, key: str, shape: Sequence[int], dtype: npt.DTypeLike) -> Iterator[NewEntry]:
        """A new entry to fill and then to publish. An entry that is not published is removed at the end of the `with` block.

        If the array cannot be stored (limit, full disk, no permission) it is in memory, the first time with a warning.

        Raises:
            NoRoomError: As in `get_or_compute`.
        """
        with ExitStack() as stack:
            try:
                staging = stack.enter_context(self._staging(_num_bytes(shape, dtype)))
                array = _allocate(staging / "array.npy", shape, dtype)
            except OSError as error:
                staging, array = None, self._allocate_in_memory(shape, dtype, error)
            yield NewEntry(self, array, staging, self._entry_path(key, shape, dtype))

    @contextmanager
    def _staging(self, num_bytes: int) -> Iterator[Path]:
        """A directory for one unfinished entry, with room for so many bytes; removed at the end unless it was renamed."""
        self._root.mkdir(parents=True, exist_ok=True)
        with self._locked():
            scratch.sweep(self._root, STAGING)  # first, since it frees room
            self._make_room(num_bytes)
            directory = scratch.ScratchFolder(self._root, STAGING)
        with directory as path:
            yield path

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Within it, no other process adds or removes entries."""
        with durable.locked(self._root / ".lock"):
            yield

    def _make_room(self, num_bytes: int) -> None:
        """Remove the least recently used entries until so many more bytes are within the limit and fit on the disk."""
        files = [(path.stat(), path) for path in self._root.glob(ENTRY + "/array.npy")]
        entries = sorted((stat.st_mtime_ns, stat.st_size, path.parent) for stat, path in files)
        total = sum(size for _, size, _ in entries)
        free = shutil.disk_usage(self._root).free - RESERVE
        if num_bytes > self.limit:
            raise OSError(errno.EFBIG, f"the cache is limited to {_format_gib(self.limit)}")
        if num_bytes > total + free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        allowed = min(self.limit, total + free) - num_bytes
        for _, size, path in entries:
            if total <= allowed:
                break
            self._remove(path)
            total -= size

    def _remove(self, path: Path) -> None:
        """Remove an entry at once: nobody sees half of it. A process that has mapped it can still read it."""
        doomed = Path(tempfile.mkdtemp(prefix=STAGING, dir=self._root))
        os.rename(path, doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def _publish(self, staging: Path, path: Path, array: np.ndarray) -> np.ndarray:
        """Rename a complete entry, in place of an older one, and return its array as later jobs get it."""
        try:
            (staging / "entry.json").write_text(json.dumps(_describe(staging / "array.npy")))
            array = _map(staging / "array.npy")
            with self._locked():
                if path.exists():
                    self._remove(path)
                os.rename(staging, path)
        except OSError as error:
            self._warn(array.nbytes, error)
        return array

    def _entry_path(self, key: str, shape: Sequence[int], dtype: npt.DTypeLike) -> Path:
        return self._name / digest(key, list(shape), np.dtype(dtype).str)

    @property
    def _root(self) -> Path:
        """The directory; OSError if there is none."""
        if self.directory is None:
            raise OSError(errno.ENOENT, "there is no home directory")
        return self.directory

    @property
    def _name(self) -> Path:
        """The directory, for messages also where there is none."""
        return self.directory or DEFAULT_NAME

    def _allocate_in_memory(self, shape: Sequence[int], dtype: npt.DTypeLike, error: OSError) -> np.ndarray:
        num_bytes = _num_bytes(shape, dtype)
        if num_bytes > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 4:
            raise NoRoomError(
                f"{_format_gib(num_bytes)} cannot be stored in {self._name}: {error.strerror}; and memory is too small "
                "for it. Make room there, or set KERAS_CNN_CACHE to another directory."
            ) from None
        self._warn(num_bytes, error)
        return np.empty(shape, dtype)

    def _warn(self, num_bytes: int, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{_format_gib(num_bytes)} cannot be stored in {self._name} for later jobs: {error.strerror}. "
                "Make room there, or set KERAS_CNN_CACHE to another directory.",
                stacklevel=6,  # the caller of `get_or_compute`, or of `create`
            )


class NewEntry:
    """An entry of an `ArrayCache` that is not complete yet.

    Attributes:
        array: The array to fill.
    """

    def __init__(self, cache: ArrayCache, array: np.ndarray, staging: Path | None, path: Path):
        self.array = array
        self._cache, self._staging, self._path = cache, staging, path

    def publish(self) -> np.ndarray:
        """Store the filled array, and return it as `ArrayCache.get` does."""
        return self.array if self._staging is None else self._cache._publish(self._staging, self._path, self.array)


def _directory_or_none(directory: str | os.PathLike | None) -> Path | None:
    """The directory of a cache; None if it would be in a home directory and there is none."""
    try:
        return Path(directory or cache_folder.cache_directory()).expanduser()
    except (RuntimeError, ValueError):
        return None


def _load(entry: Path) -> np.ndarray | None:
    """The array of an entry; None if there is none or it is damaged."""
    try:
        path = entry / "array.npy"
        if json.loads((entry / "entry.json").read_text()) != _describe(path):
            return None
        with suppress(OSError):  # another user's, or on a read-only disk
            os.utime(path)  # it is the most recently used one now
        return _map(path)
    except (OSError, ValueError):
        return None


def _map(path: Path) -> np.ndarray:
    # Copy on write: TensorFlow copies memory that is read-only, and shares memory that is writable.
    return np.load(path, mmap_mode="c")


def _describe(path: Path) -> dict[str, int]:
    """Size and CRC-32 of a file."""
    checksum = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            checksum = zlib.crc32(block, checksum)
        return {"bytes": file.tell(), "crc32": checksum}


def _allocate(path: Path, shape: Sequence[int], dtype: npt.DTypeLike) -> np.ndarray:
    """A new array in a file. Its room on the disk is reserved now: a full disk is an error here, but a crash later."""
    array = np.lib.format.open_memmap(path, "w+", dtype, tuple(shape))
    if hasattr(os, "posix_fallocate"):  # macOS has none
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _num_bytes(shape: Sequence[int], dtype: npt.DTypeLike) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def _format_gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB"
