"""A job that is killed and started again ends as one that was never interrupted, to the bit."""

import random
import subprocess
import sys

import numpy as np
import pytest
import resumable_job
from resumable_job import EPOCHS, STEPS, run

from keras_cnn.training import ExactResume
from keras_cnn.training.checkpoints import Checkpoints


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """For each kind of data, what a job gives that runs from beginning to end."""
    return {kind: run(kind, tmp_path_factory.mktemp(kind)) for kind in ("dataset", "pydataset", "function")}


def killed(kind, folder, step):
    """A process that is killed behind a step."""
    return subprocess.Popen(
        [sys.executable, resumable_job.__file__, kind, str(folder), str(step)], stderr=subprocess.DEVNULL
    )


def assert_same(found, expected):
    for one, other in zip(found[0], expected[0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert found[1:] == expected[1:]


def test_killed_at_three_points_and_started_again(uninterrupted, tmp_path):
    points = {"dataset": STEPS, "pydataset": STEPS + 3, "function": 3 * STEPS}  # two of them between epochs
    processes = {kind: killed(kind, tmp_path / kind, step) for kind, step in points.items()}
    for kind, process in processes.items():
        assert process.wait() == -9
        assert_same(run(kind, tmp_path / kind), uninterrupted[kind])


@pytest.mark.slow
def test_killed_at_twenty_random_points(uninterrupted, tmp_path):
    steps = random.Random(0).sample(range(1, EPOCHS * STEPS), 20)
    for number, step in enumerate(steps):
        kind, folder = ("dataset", "pydataset", "function")[number % 3], tmp_path / str(step)
        assert killed(kind, folder, step).wait() == -9
        assert_same(run(kind, folder), uninterrupted[kind])


@pytest.mark.slow
def test_a_finished_job_is_not_trained_again(uninterrupted, tmp_path):
    first = run("function", tmp_path)
    assert_same(run("function", tmp_path), first)
    assert_same(first, uninterrupted["function"])


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over(uninterrupted, tmp_path):
    assert killed("dataset", tmp_path, STEPS + 2).wait() == -9
    newest = max(tmp_path.glob("*.npz"), key=lambda path: int(path.stem))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged"):
        found = run("dataset", tmp_path)
    assert_same(found, uninterrupted["dataset"])


def test_another_job_is_refused(tmp_path):
    run("function", tmp_path)
    with pytest.raises(ValueError, match=r"initial_learning_rate is 0\.02, was 0\.01"):
        run("function", tmp_path, rate=0.02)


def test_data_must_pass_through(tmp_path):
    resume, model = ExactResume(tmp_path), resumable_job.model()
    with pytest.raises(ValueError, match=r"resume\.data\(dataset\)"):
        model.fit(resumable_job.data("dataset"), shuffle=False, callbacks=[resume], verbose=0)
    with pytest.raises(ValueError, match=r"ExactResume\.data: `dataset` must be"):
        resume.data(np.zeros(3))
    with pytest.raises(ValueError, match="seconds"):
        ExactResume(tmp_path, seconds=-1)


def test_checkpoints_keep_two_and_all_types(tmp_path):
    import ml_dtypes

    checkpoints = Checkpoints(tmp_path / "new")
    assert checkpoints.load() is None
    arrays = [np.arange(3.0), np.array(1.5, ml_dtypes.bfloat16), np.array(2, "uint32"), np.zeros((0, 2))]
    for number in range(4):
        checkpoints.save(arrays, {"number": number})
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["3.json", "3.npz", "4.json", "4.npz"]
    found, state = checkpoints.load()
    assert state == {"number": 3}
    for one, other in zip(found, arrays, strict=True):
        assert one.dtype == other.dtype and np.array_equal(one, other)


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save([np.ones(2)], {"number": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save([np.ones(2)], {"number": 2})
    monkeypatch.undo()
    assert checkpoints.load()[1] == {"number": 1} and not list(tmp_path.glob("*.part"))
