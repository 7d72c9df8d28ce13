"""The files next to the graph: safe names, a lock that all writers share, requests encoded as protocol buffers."""

import fcntl
import os
import subprocess
import threading

import numpy as np
import pytest
import tensorflow as tf

from keras_cnn.serving import (
    FolderError,
    examples,
    fresh_process,
    layout,
    server_files,
    verification,
    version_folder,
    warm_up,
)
from pipelines import InputError
from pipelines.runs import output_folder


def test_numbers_are_encoded_as_in_the_documentation_of_protocol_buffers():
    # https://protobuf.dev/programming-guides/encoding: 150 is 96 01, and the text "testing" in field 2 is 12 07 74 65 …
    assert warm_up._varint(150) == b"\x96\x01" and warm_up._varint(1) == b"\x01"
    assert warm_up._field(2, b"testing") == b"\x12\x07testing"
    assert fresh_process.varint(b"\x96\x01", 0) == (150, 2)
    assert fresh_process.fields(b"\x12\x07testing\x12\x00") == {2: [b"testing", b""]}


@pytest.mark.parametrize("xla", [False, True])
def test_warm_up_requests(tmp_path, xla):
    warm_up.write(tmp_path, b"an image", (16, 24), xla)
    requests = []
    file = tmp_path / "assets.extra" / "tf_serving_warmup_requests"
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        predict = fresh_process.fields(fresh_process.fields(fresh_process.fields(record)[6][0])[1][0])
        (entry,) = map(fresh_process.fields, predict[2])
        tensor = tf.make_ndarray(fresh_process.tensor(entry[2][0]))
        requests.append((fresh_process.fields(predict[1][0])[3][0], entry[1][0], tensor.shape, tensor.ravel()[0]))
    default = [(b"serving_default", b"image_bytes", (size,), b"an image") for size in (1, 8)]
    compiled = [(b"serving_xla", b"images", (size, 16, 24, 3), 0) for size in server_files.BATCH_SIZES if xla]
    assert requests == default + compiled
    assert file.stat().st_size < 2000  # black images are one number


@pytest.mark.parametrize(
    ("name", "expected"),
    [("photos", "photos"), ("my photos", "my_photos"), ('x"; rm -rf "~', "x_rm_-rf"), ("寿司", "model"), ("..", None)],
)
def test_the_name_of_a_folder_cannot_inject(tmp_path, name, expected):
    directory = tmp_path / "inner" / name
    found = server_files.name_of(directory)
    assert found == (expected or tmp_path.name.strip("_"))
    directory.mkdir(parents=True, exist_ok=True)
    server_files.write(directory, tmp_path / "serving")
    text = (tmp_path / "serving" / "models.config").read_text()
    assert f'name: "{found}"' in text and text.count('"') == 6
    assert f'-v "$PWD":/models/{found}:ro' in (tmp_path / "serving" / "README.md").read_text()


def test_all_writers_share_one_lock(tmp_path):
    with (
        output_folder.open_output(tmp_path),
        pytest.raises(FolderError, match=r"Another job is writing to .*\. Wait for it"),
    ):
        with version_folder.open_staging(tmp_path):
            pass
    with (
        version_folder.open_staging(tmp_path),
        pytest.raises(InputError, match="Another job is writing"),
        output_folder.open_output(tmp_path),
    ):
        pass


def test_the_lock_of_a_job_that_ended_just_now_is_not_taken_for_one(tmp_path, monkeypatch):
    """Between opening the file and locking it, its owner may have removed it: the lock would be on nothing."""
    real, removed = fcntl.flock, []

    def flock(lock, how):
        if not removed:
            (tmp_path / layout.LOCK).unlink()
            removed.append(lock)
        return real(lock, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with version_folder.open_staging(tmp_path), pytest.raises(FolderError), version_folder.open_staging(tmp_path):
        pass
    assert removed


def test_one_of_many_writers_gets_the_lock(tmp_path):
    barrier, outcomes = threading.Barrier(8), []

    def write():
        barrier.wait()
        try:
            with version_folder.open_staging(tmp_path):
                outcomes.append("in")
                done.wait(5)
        except FolderError:
            outcomes.append("out")
            if outcomes.count("out") == 7:
                done.set()

    done = threading.Event()
    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["in"] + ["out"] * 7


def test_versions_and_runs_are_numbered_together(tmp_path):
    (tmp_path / "runs" / "3").mkdir(parents=True)
    (tmp_path / "2").mkdir()
    assert version_folder.next_version(tmp_path) == 4
    (tmp_path / "²").mkdir()  # a digit to Python, no number to TF Serving
    assert layout.highest_version(tmp_path) == 2


def test_images_to_verify_on_are_next_to_the_version_and_are_removed(tmp_path, monkeypatch):
    """In the staging folder, where the next job removes what a kill leaves; nothing in the folder for temporary files."""
    staging, temporary, seen = tmp_path / "staging", tmp_path / "temporary", []
    staging.mkdir()
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    def run(command, **_):
        seen.append((command[-1], sorted(path.name for path in staging.iterdir())))
        return subprocess.CompletedProcess(command, 0, '{"images": 1}\n', "")

    monkeypatch.setattr(subprocess, "run", run)
    example = examples.Example(b"an image", np.zeros(2, "float32"))
    assert verification._run(staging / "version", [example]) == {"images": 1}
    assert verification._run(staging / "version", ()) == {"images": 1}
    more = staging / "more.tfrecord"
    assert seen == [(str(more), [more.name]), (os.devnull, [])]
    assert list(staging.iterdir()) == list(temporary.iterdir()) == []
    assert fresh_process.read(os.devnull) == []
