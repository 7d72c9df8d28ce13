"""Files that are complete or not there, locks that write nothing, and temporary folders that a kill does not leave."""

import ast
import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from keras_cnn import durable, scratch
from keras_cnn.scratch import ScratchFolder

ROOT = Path(__file__).parent.parent


def test_a_file_gets_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with durable.atomic_write(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_after_an_error_the_old_file_is_there_and_nothing_else(tmp_path, error):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(type(error)), durable.atomic_write(path) as file:
        file.write(b"new")
        raise error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("value", [None, 1.5, "é\n", {"a": [1, {"b": None}]}, [float("inf")]])
def test_a_record_comes_back(tmp_path, value):
    durable.write_record(tmp_path / "a", value)
    assert durable.read_record(tmp_path / "a") == value
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-1])
    with pytest.raises(ValueError, match="the checksum in a differs"):
        durable.read_record(tmp_path / "a")


def obstacle(path, kind):
    """Something in the place of a file; returns the file that a link leads to."""
    target = path.parent / "thesis.txt"
    target.write_text("years of work")
    if kind == "link":
        path.symlink_to(target)
    elif kind == "link to a link":
        (path.parent / "between").symlink_to(target)
        path.symlink_to(path.parent / "between")
    elif kind == "link to nothing":
        path.symlink_to(path.parent / "nothing")
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    return target


@pytest.mark.parametrize("kind", ["link", "link to a link", "link to nothing", "FIFO", "folder"])
def test_what_is_no_plain_file_is_no_lock(tmp_path, kind):
    target = obstacle(tmp_path / ".lock", kind)
    with pytest.raises(OSError, match=r"\.lock in it must be a plain file, and is not one"):
        with durable.locked(tmp_path / ".lock"):
            pass
    assert target.read_text() == "years of work" and not (tmp_path / "nothing").exists()


def test_a_lock_changes_no_byte_of_a_hard_link(tmp_path):
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("years of work")
    os.link(thesis, tmp_path / ".lock")
    with durable.locked(tmp_path / ".lock"):
        pass
    assert thesis.read_text() == "years of work"


def test_a_lock_is_held_by_one_and_free_afterwards(tmp_path):
    path = tmp_path / ".lock"
    with durable.locked(path):
        with (
            pytest.raises(durable.LockedError, match=r"Another process holds .*\.lock"),
            durable.locked(path, wait=False),
        ):
            pass
    with durable.locked(path, wait=False):
        assert path.stat().st_size == 0


def test_who_waits_for_a_lock_gets_it(tmp_path):
    held, order = threading.Event(), []

    def hold():
        with durable.locked(tmp_path / ".lock"):
            held.set()
            threading.Event().wait(0.1)
            order.append("first")

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with durable.locked(tmp_path / ".lock"):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_a_folder_is_made_with_those_around_it(tmp_path):
    durable.make_directory(tmp_path / "a" / "b")
    durable.make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "?"), True),
        (OSError(errno.EDQUOT, "?"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (
            RuntimeError("Unable to synchronously close file (errno = 28, error message = 'No space left on device')"),
            True,
        ),
        (ValueError("No space"), False),
    ],
)
def test_a_full_disk_is_told_from_other_errors(error, full):
    assert durable.is_disk_full(error) == full


HOLDER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("scratch", "keras_cnn/scratch.py")  # without the seconds of TensorFlow
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
with module.ScratchFolder(sys.argv[1], ".part-") as folder:
    (folder / "a photo").write_text("private")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_the_folder_of_a_killed_process_goes_and_that_of_a_living_one_stays(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    processes = [subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], **pipes) for _ in range(2)]
    killed, living = (Path(process.stdout.readline().strip()) for process in processes)
    processes[0].send_signal(signal.SIGKILL)
    processes[0].communicate()
    assert (killed / "a photo").exists()
    with ScratchFolder(tmp_path, ".part-") as own:
        assert sorted(tmp_path.iterdir()) == sorted([living, own])
    processes[1].communicate()
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_folder_is_not_swept_away(tmp_path):
    target = obstacle(tmp_path / ".part-link", "link")
    (tmp_path / "kept").mkdir()
    (tmp_path / ".part-folder").symlink_to(tmp_path / "kept")
    os.mkfifo(tmp_path / ".part-fifo")
    with ScratchFolder(tmp_path, ".part-"):
        pass
    assert target.exists() and (tmp_path / "kept").is_dir() and (tmp_path / ".part-fifo").exists()


def test_a_folder_taken_for_a_leftover_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    real, taken = tempfile.mkdtemp, []

    def mkdtemp(**options):
        path = real(**options)
        if not taken:
            taken.append(path)
            scratch.sweep(tmp_path, ".part-")  # another process
        return path

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    with ScratchFolder(tmp_path, ".part-") as folder:
        assert folder.is_dir() and not os.path.exists(taken[0])


def test_where_folders_cannot_be_locked_there_is_one_all_the_same(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))  # as some network file systems say

    monkeypatch.setattr(scratch.fcntl, "flock", flock)
    with ScratchFolder(tmp_path, ".part-") as first, ScratchFolder(tmp_path, ".part-") as second:
        assert first.is_dir() and second.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_temporary_files_of_other_libraries_lie_where_they_are_removed(tmp_path):
    with scratch.temporary_files_in(tmp_path):
        assert Path(tempfile.mkdtemp()).parent == tmp_path
    assert Path(tempfile.gettempdir()) != tmp_path


def test_temporary_files_are_made_where_they_are_looked_after():
    """In a scratch folder, in the staging folder of the output, or without a name."""
    uses = {
        str(path.relative_to(ROOT))
        for folder in ("keras_cnn", "pipelines")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "tempfile"
        if node.attr not in ("gettempdir", "TemporaryFile", "tempdir")
    }
    assert uses == {"keras_cnn/scratch.py", "keras_cnn/serving/version_folder.py", "pipelines/datasets/array_cache.py"}
