"""What is kept between jobs: never half, never too much, never wrong, and never in the way."""

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

from keras_cnn import durable, fetching
from pipelines.catalog import image_store as kept_images
from pipelines.datasets import array_cache
from pipelines.datasets.array_cache import Cache, NoRoomError, digest, stamps

ROOT = Path(__file__).parent.parent
KILOBYTE = 2**10
# A process that fills an array of eight numbers, tells when it has begun, and ends when its input does.
WRITER = """
import sys
from pipelines.datasets.array_cache import Cache
def fill(array):
    array[:4] = 1
    print("begun", flush=True)
    sys.stdin.read()
    array[:] = range(8)
print(Cache(sys.argv[1]).array("key", (8,), "int64", fill).sum(), flush=True)
"""


@pytest.fixture
def kept(tmp_path):
    """A function that asks a cache for `size` bytes under a key, and the keys that had to be computed."""
    computed = []

    def ask(key, size=KILOBYTE, limit=array_cache.LIMIT):
        def fill(array):
            computed.append(key)
            array[:] = np.arange(size) % 251

        array = Cache(tmp_path / "cache", limit).array(key, (size,), "uint8", fill)
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


def test_an_array_is_computed_once_and_lies_on_disk(kept):
    kept("a")
    assert kept.computed == ["a"] and isinstance(kept("a"), np.memmap)
    for _ in range(2):
        kept("c")[:] = 0  # nobody else sees it
    kept("b")
    kept("a", size=10)  # another shape is another array
    assert kept.computed == ["a", "c", "b", "a"]


def test_the_folder_is_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("KERAS_CNN_CACHE", "/somewhere")
    assert Cache().directory == Path("/somewhere")
    monkeypatch.delenv("KERAS_CNN_CACHE")
    assert Cache().directory == Path.home() / ".cache" / "keras_cnn"


def test_the_digest_depends_on_every_part():
    parts = ["a", 1, None, 0.5, ["b", "c"], ("b",), {"size": 2}, "\udcff"]
    assert digest(*parts) == digest(*parts)
    others = [digest(*parts[:i], "other", *parts[i + 1 :]) for i in range(len(parts))]
    assert len({digest(*parts), digest(*parts[::-1]), digest(parts), *others}) == len(parts) + 3
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_stamps_change_when_a_file_is_replaced_by_one_of_the_same_size_and_date(tmp_path):
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_text("red")
    before = stamps(files)
    assert stamps(files) == before and stamps(files[::-1]) != before
    time.sleep(0.02)  # the clock of a file system ticks every few milliseconds
    files[1].write_text("sea")
    os.utime(files[1], ns=(0, before[1][2]))
    after = stamps(files)
    assert after[0] == before[0] and after[1][:3] == before[1][:3] and after[1] != before[1]
    files[0].unlink()
    with pytest.raises(FileNotFoundError, match=r"a'$"):
        stamps(files)


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
def test_a_damaged_entry_is_computed_again(kept, damage):
    kept("a")
    (folder,) = entries(kept.directory)
    damage(folder)
    kept("a")
    kept("a")
    assert kept.computed == ["a", "a"]
    assert entries(kept.directory) == [folder]


def test_the_least_recently_used_make_room(kept):
    limit = 4 * KILOBYTE  # three arrays of a kilobyte with their headers
    for key in ("a", "b", "c"):
        kept(key, limit=limit)
        time.sleep(0.02)
    kept("a", limit=limit)
    time.sleep(0.02)
    kept("d", limit=limit)  # in place of b
    assert len(entries(kept.directory)) == 3
    for key in ("a", "c", "d"):
        kept(key, limit=limit)
    assert kept.computed == ["a", "b", "c", "d"]
    assert sum(path.stat().st_size for path in kept.directory.glob("*/array.npy")) <= limit


def test_what_cannot_be_kept_is_computed_with_one_warning(tmp_path):
    small = Cache(tmp_path, limit=100)
    with pytest.warns(UserWarning, match=r"^0.0 GiB cannot be kept in .*: the cache is limited to 0.0 GiB. Make room"):
        array = small.array("a", (200,), "uint8", lambda array: array.fill(7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small.array("b", (200,), "uint8", lambda array: array.fill(8))
    assert array.tolist() == [7] * 200 and not isinstance(array, np.memmap)
    with pytest.raises(NoRoomError, match=r"^1048576.0 GiB cannot be kept in .*; and memory is too small"):
        small.array("c", (2**50,), "uint8", None)
    assert entries(tmp_path) == []


def test_a_disk_that_refuses_is_no_obstacle(tmp_path):
    # The kernel refuses files beyond this size, as a full disk would.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 * KILOBYTE, hard))
    try:
        with pytest.warns(UserWarning, match="File too large"):
            array = Cache(tmp_path).array("a", (2**20,), "uint8", lambda array: array.fill(7))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert array.sum() == 7 * 2**20 and entries(tmp_path) == []


def test_the_room_on_the_disk_is_taken_before_it_is_written(tmp_path):
    def fill(array):
        (path,) = tmp_path.glob("*/array.npy")
        assert path.stat().st_blocks * 512 >= path.stat().st_size > 2**24

    Cache(tmp_path).array("a", (2**24,), "uint8", fill)


def test_a_disk_that_is_nearly_full_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(array_cache, "RESERVE", 2**60)
    with pytest.warns(UserWarning, match="No space left on device"):
        Cache(tmp_path).array("a", (8,), "uint8", lambda array: array.fill(7))


@pytest.mark.parametrize("obstacle", ["a file", "a folder that is no cache"])
def test_a_place_that_cannot_be_written_is_no_obstacle(tmp_path, obstacle):
    place = tmp_path / "place"
    if obstacle == "a file":
        place.touch()
    else:
        (place / ".lock").mkdir(parents=True)
    with pytest.warns(UserWarning, match="cannot be kept"):
        assert Cache(place).array("a", (2,), "uint8", lambda array: array.fill(7)).tolist() == [7, 7]


def test_a_link_in_the_place_of_the_lock_is_not_written_through(tmp_path):
    place, thesis = tmp_path / "place", tmp_path / "thesis.txt"
    place.mkdir()
    thesis.write_text("years of work")
    (place / ".lock").symlink_to(thesis)
    with pytest.warns(UserWarning, match=r"cannot be kept in .*: \.lock in it must be a plain file, and is not one\."):
        assert Cache(place).array("a", (2,), "uint8", lambda array: array.fill(7)).tolist() == [7, 7]
    assert thesis.read_text() == "years of work"


@pytest.mark.parametrize("error", [PermissionError(errno.EPERM, "?"), OSError(errno.EROFS, "Read-only file system")])
def test_a_cache_that_may_only_be_read_is_read(kept, monkeypatch, error):
    """Of another user, or on a disk that is mounted for reading: what is there is used, the rest computed and not kept."""
    kept("a")

    def refused(*_, **__):
        raise error

    for name in ("utime", "mkdir", "rename", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, refused)
    monkeypatch.setattr(durable, "locked", refused)
    assert isinstance(kept("a"), np.memmap) and kept.computed == ["a"]
    with pytest.warns(UserWarning, match="cannot be kept"):
        kept("b")
    assert kept.computed == ["a", "b"]


@pytest.fixture
def homeless(monkeypatch):
    """A user without a home: neither the environment nor the list of users knows one."""

    def unknown(_):
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    return monkeypatch


@pytest.mark.parametrize("named", [None, "~/cache"])
def test_without_a_home_nothing_is_kept_and_all_is_computed(homeless, named):
    homeless.delenv("KERAS_CNN_CACHE", raising=False)
    if named:
        homeless.setenv("KERAS_CNN_CACHE", named)
    with pytest.warns(UserWarning, match=r"cannot be kept in .*: there is no home directory\. Make room"):
        assert Cache().array("a", (2,), "uint8", lambda array: array.fill(7)).tolist() == [7, 7]
    with pytest.raises(NoRoomError, match="there is no home directory; and memory is too small"):
        Cache().array("b", (2**50,), "uint8", None)


def test_without_a_home_downloads_ask_for_a_place(homeless):
    homeless.delenv("KERAS_CNN_CACHE", raising=False)
    for function in (fetching.cache, kept_images.default_folder):
        with pytest.raises(
            ValueError, match=r"^The cache must lie in a home directory, or .* Name a folder by KERAS_CNN_"
        ):
            function()


def test_without_a_home_the_environment_decides(homeless, tmp_path):
    homeless.setenv("KERAS_CNN_CACHE", str(tmp_path))
    Cache().array("a", (2,), "uint8", lambda array: array.fill(7))
    assert Cache().array("a", (2,), "uint8", None).tolist() == [7, 7]


def test_strange_things_by_the_name_of_leavings_are_no_obstacle(kept):
    kept.directory.mkdir()
    os.mkfifo(kept.directory / ".staging-fifo")  # to open it would take for ever
    (kept.directory / ".staging-link").symlink_to(kept.directory)
    kept("a")
    assert isinstance(kept("a"), np.memmap)


def test_nothing_is_kept_when_the_computation_fails(tmp_path):
    def fill(array):
        array[:] = 1
        raise OSError("the photos have gone")

    with pytest.raises(OSError, match=r"^the photos have gone$"):
        Cache(tmp_path).array("a", (8,), "uint8", fill)
    assert entries(tmp_path) == []


@pytest.mark.slow
def test_a_killed_process_leaves_nothing_that_is_taken_for_complete(tmp_path):
    process = write(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = entries(tmp_path)
    array = Cache(tmp_path).array("key", (8,), "int64", lambda array: array.fill(5))
    assert array.tolist() == [5] * 8
    assert len(entries(tmp_path)) == 1 and not left.exists()


@pytest.mark.slow
def test_two_processes_compute_the_same_array(tmp_path):
    slow = write(tmp_path)
    (working,) = entries(tmp_path)
    quick = write(tmp_path)
    assert working in entries(tmp_path)  # it has not been swept away
    for process in (quick, slow):
        assert process.communicate()[0] == "28\n" and process.returncode == 0
    assert len(entries(tmp_path)) == 1
    assert Cache(tmp_path).array("key", (8,), "int64", None).tolist() == list(range(8))
