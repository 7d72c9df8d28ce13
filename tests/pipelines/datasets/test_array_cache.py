"""The array cache: entries are complete, within the limit and correct, and a cache that cannot be written stops no job."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from keras_cnn import cache_folder, durable
from pipelines.catalog import image_store
from pipelines.datasets import array_cache
from pipelines.datasets.array_cache import ArrayCache, NoRoomError, digest, file_stamps

ROOT = Path(__file__).parents[3]
KILOBYTE = 2**10
# A process that fills an array of eight numbers, prints a line when it begins, and ends when its input ends.
WRITER = """
import sys
from pipelines.datasets.array_cache import ArrayCache
def fill(array):
    array[:4] = 1
    print("begun", flush=True)
    sys.stdin.read()
    array[:] = range(8)
print(ArrayCache(sys.argv[1]).get_or_compute("key", (8,), "int64", fill).sum(), flush=True)
"""


@pytest.fixture
def cached(tmp_path):
    """A function that asks a cache for `size` bytes under a key; its `computed` lists the keys that were computed."""
    computed = []

    def ask(key, size=KILOBYTE, limit=array_cache.LIMIT):
        def fill(array):
            computed.append(key)
            array[:] = np.arange(size) % 251

        array = ArrayCache(tmp_path / "cache", limit).get_or_compute(key, (size,), "uint8", fill)
        np.testing.assert_array_equal(array, np.arange(size) % 251)
        return array

    ask.computed, ask.directory = computed, tmp_path / "cache"
    return ask


def entries(directory):
    return [path for path in directory.iterdir() if path.name != ".lock"]


def write(directory):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", WRITER, directory], cwd=ROOT, text=True, **pipes)
    assert process.stdout.readline() == "begun\n"
    return process


def test_an_array_is_computed_once_and_mapped_from_the_disk(cached):
    cached("a")
    assert cached.computed == ["a"] and isinstance(cached("a"), np.memmap)
    for _ in range(2):
        cached("c")[:] = 0  # no other reader sees the change
    cached("b")
    cached("a", size=10)  # another shape is another array
    assert cached.computed == ["a", "c", "b", "a"]


def test_the_environment_sets_the_directory(monkeypatch):
    monkeypatch.setenv("KERAS_CNN_CACHE", "/somewhere")
    assert ArrayCache().directory == Path("/somewhere")
    monkeypatch.delenv("KERAS_CNN_CACHE")
    assert ArrayCache().directory == Path.home() / ".cache" / "keras_cnn"


def test_the_digest_depends_on_every_part():
    parts = ["a", 1, None, 0.5, ["b", "c"], ("b",), {"size": 2}, "\udcff"]
    assert digest(*parts) == digest(*parts)
    others = [digest(*parts[:i], "other", *parts[i + 1 :]) for i in range(len(parts))]
    assert len({digest(*parts), digest(*parts[::-1]), digest(parts), *others}) == len(parts) + 3
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_file_stamps_change_when_a_file_is_replaced_by_one_of_the_same_size_and_date(tmp_path):
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_text("red")
    before = file_stamps(files)
    assert file_stamps(files) == before and file_stamps(files[::-1]) != before
    time.sleep(0.02)  # the clock of a file system ticks every few milliseconds
    files[1].write_text("sea")
    os.utime(files[1], ns=(0, before[1][2]))
    after = file_stamps(files)
    assert after[0] == before[0] and after[1][:3] == before[1][:3] and after[1] != before[1]
    files[0].unlink()
    with pytest.raises(FileNotFoundError, match=r"a'$"):
        file_stamps(files)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "array.npy").write_bytes((folder / "array.npy").read_bytes()[:-1]),
        lambda folder: (folder / "array.npy").write_bytes((folder / "array.npy").read_bytes()[:-1] + b"\0"),
        lambda folder: (folder / "array.npy").unlink(),
        lambda folder: (folder / "entry.json").write_text("{"),
        lambda folder: (folder / "entry.json").unlink(),
    ],
    ids=["shorter", "another byte", "no array", "no JSON", "no record"],
)
def test_a_damaged_entry_is_computed_again(cached, damage):
    cached("a")
    (folder,) = entries(cached.directory)
    damage(folder)
    cached("a")
    cached("a")
    assert cached.computed == ["a", "a"]
    assert entries(cached.directory) == [folder]


def test_the_least_recently_used_make_room(cached):
    limit = 4 * KILOBYTE  # three arrays of a kilobyte with their headers
    for key in ("a", "b", "c"):
        cached(key, limit=limit)
        time.sleep(0.02)
    cached("a", limit=limit)
    time.sleep(0.02)
    cached("d", limit=limit)  # in place of b
    assert len(entries(cached.directory)) == 3
    for key in ("a", "c", "d"):
        cached(key, limit=limit)
    assert cached.computed == ["a", "b", "c", "d"]
    assert sum(path.stat().st_size for path in cached.directory.glob("*/array.npy")) <= limit


def test_what_cannot_be_stored_is_computed_with_one_warning(tmp_path):
    small = ArrayCache(tmp_path, limit=100)
    with pytest.warns(
        UserWarning, match=r"^0.0 GiB cannot be stored in .*: the cache is limited to 0.0 GiB. Make room"
    ):
        array = small.get_or_compute("a", (200,), "uint8", lambda array: array.fill(7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small.get_or_compute("b", (200,), "uint8", lambda array: array.fill(8))
    assert array.tolist() == [7] * 200 and not isinstance(array, np.memmap)
    with pytest.raises(NoRoomError, match=r"^1048576.0 GiB cannot be stored in .*; and memory is too small"):
        small.get_or_compute("c", (2**50,), "uint8", None)
    assert entries(tmp_path) == []


def test_a_disk_that_refuses_to_write_stops_no_job(tmp_path):
    # The kernel refuses files beyond this size, as a full disk would.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 * KILOBYTE, hard))
    try:
        with pytest.warns(UserWarning, match="File too large"):
            array = ArrayCache(tmp_path).get_or_compute("a", (2**20,), "uint8", lambda array: array.fill(7))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert array.sum() == 7 * 2**20 and entries(tmp_path) == []


def test_the_room_on_the_disk_is_reserved_before_the_array_is_written(tmp_path):
    def fill(array):
        (path,) = tmp_path.glob("*/array.npy")
        assert path.stat().st_blocks * 512 >= path.stat().st_size > 2**24

    ArrayCache(tmp_path).get_or_compute("a", (2**24,), "uint8", fill)


def test_the_last_gibibyte_of_a_disk_stays_free(tmp_path, monkeypatch):
    monkeypatch.setattr(array_cache, "RESERVE", 2**60)
    with pytest.warns(UserWarning, match="No space left on device"):
        ArrayCache(tmp_path).get_or_compute("a", (8,), "uint8", lambda array: array.fill(7))


@pytest.mark.parametrize("obstacle", ["a file", "a folder that is no cache"])
def test_a_directory_that_cannot_be_written_stops_no_job(tmp_path, obstacle):
    directory = tmp_path / "directory"
    if obstacle == "a file":
        directory.touch()
    else:
        (directory / ".lock").mkdir(parents=True)
    with pytest.warns(UserWarning, match="cannot be stored"):
        assert ArrayCache(directory).get_or_compute("a", (2,), "uint8", lambda array: array.fill(7)).tolist() == [7, 7]


def test_a_symbolic_link_named_like_the_lock_is_not_written_through(tmp_path):
    directory, thesis = tmp_path / "directory", tmp_path / "thesis.txt"
    directory.mkdir()
    thesis.write_text("years of work")
    (directory / ".lock").symlink_to(thesis)
    with pytest.warns(
        UserWarning, match=r"cannot be stored in .*: \.lock in it must be a plain file, and is not one\."
    ):
        assert ArrayCache(directory).get_or_compute("a", (2,), "uint8", lambda array: array.fill(7)).tolist() == [7, 7]
    assert thesis.read_text() == "years of work"


@pytest.mark.parametrize("error", [PermissionError(errno.EPERM, "?"), OSError(errno.EROFS, "Read-only file system")])
def test_a_read_only_cache_is_read(cached, monkeypatch, error):
    """Another user's, or on a read-only disk: stored arrays are used, the others are computed and not stored."""
    cached("a")

    def refused(*_, **__):
        raise error

    for name in ("utime", "mkdir", "rename", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, refused)
    monkeypatch.setattr(durable, "locked", refused)
    assert isinstance(cached("a"), np.memmap) and cached.computed == ["a"]
    with pytest.warns(UserWarning, match="cannot be stored"):
        cached("b")
    assert cached.computed == ["a", "b"]


@pytest.fixture
def homeless(monkeypatch):
    """A user without a home directory, in the environment and in the list of users."""

    def unknown(_):
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    return monkeypatch


@pytest.mark.parametrize("named", [None, "~/cache"])
def test_without_a_home_arrays_are_computed_and_not_stored(homeless, named):
    homeless.delenv("KERAS_CNN_CACHE", raising=False)
    if named:
        homeless.setenv("KERAS_CNN_CACHE", named)
    with pytest.warns(UserWarning, match=r"cannot be stored in .*: there is no home directory\. Make room"):
        assert ArrayCache().get_or_compute("a", (2,), "uint8", lambda array: array.fill(7)).tolist() == [7, 7]
    with pytest.raises(NoRoomError, match="there is no home directory; and memory is too small"):
        ArrayCache().get_or_compute("b", (2**50,), "uint8", None)


def test_without_a_home_downloads_ask_for_a_directory(homeless):
    homeless.delenv("KERAS_CNN_CACHE", raising=False)
    for function in (cache_folder.cache_directory, image_store.default_directory):
        with pytest.raises(
            ValueError, match=r"^The cache must lie in a home directory, or .* Name a directory by KERAS_CNN_"
        ):
            function()


def test_without_a_home_the_environment_sets_the_directory(homeless, tmp_path):
    homeless.setenv("KERAS_CNN_CACHE", str(tmp_path))
    ArrayCache().get_or_compute("a", (2,), "uint8", lambda array: array.fill(7))
    assert ArrayCache().get_or_compute("a", (2,), "uint8", None).tolist() == [7, 7]


def test_a_pipe_and_a_link_named_like_staging_directories_are_ignored(cached):
    cached.directory.mkdir()
    os.mkfifo(cached.directory / ".staging-fifo")  # opening it would wait forever
    (cached.directory / ".staging-link").symlink_to(cached.directory)
    cached("a")
    assert isinstance(cached("a"), np.memmap)


def test_nothing_is_stored_when_the_computation_fails(tmp_path):
    def fill(array):
        array[:] = 1
        raise OSError("the photos have gone")

    with pytest.raises(OSError, match=r"^the photos have gone$"):
        ArrayCache(tmp_path).get_or_compute("a", (8,), "uint8", fill)
    assert entries(tmp_path) == []


@pytest.mark.slow
def test_the_unfinished_entry_of_a_killed_process_is_removed_and_never_read(tmp_path):
    process = write(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = entries(tmp_path)
    array = ArrayCache(tmp_path).get_or_compute("key", (8,), "int64", lambda array: array.fill(5))
    assert array.tolist() == [5] * 8
    assert len(entries(tmp_path)) == 1 and not left.exists()


@pytest.mark.slow
def test_two_processes_compute_the_same_array(tmp_path):
    slow = write(tmp_path)
    (working,) = entries(tmp_path)
    quick = write(tmp_path)
    assert working in entries(tmp_path)  # it was not removed as unfinished
    for process in (quick, slow):
        assert process.communicate()[0] == "28\n" and process.returncode == 0
    assert len(entries(tmp_path)) == 1
    assert ArrayCache(tmp_path).get_or_compute("key", (8,), "int64", None).tolist() == list(range(8))
