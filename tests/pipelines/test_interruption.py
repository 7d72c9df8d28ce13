"""A job that is stopped in the middle, as real processes: TF Serving never sees a part of it, and it can go on."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers.networks import random_backbone

PROGRAM = Path(sys.executable).parent / "keras-cnn"
PATIENCE = 120


@pytest.fixture(scope="module")
def command(sample_photos, tmp_path_factory):
    """A function of arguments: the command that trains a small network, with 3 steps per epoch."""
    network = tmp_path_factory.mktemp("network") / "network.keras"
    random_backbone().model.save(network)

    def of(out, train="stage3", epochs=12):
        """At a low rate: a restart would have checkpoints of its own."""
        job = [PROGRAM, "fit", sample_photos, "--out", out, "--backbone", network, "--train", train]
        return [*job, "--epochs", str(epochs), "--batch-size", "4", "--learning-rate", "0.0001"]

    return of


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    """What jobs that nothing has stopped end with, by their arguments."""
    found = {}

    def of(*arguments):
        if arguments not in found:
            out = tmp_path_factory.mktemp("whole")
            subprocess.run(command(out, *arguments), check=True, capture_output=True)
            found[arguments] = outcome(out)
        return found[arguments]

    return of


def outcome(out):
    """The history and the weights of the first run in a folder."""
    with open(out / "runs" / "1" / "history.csv", newline="") as file:
        history = list(csv.DictReader(file))
    return history, keras.models.load_model(out / "runs" / "1" / "model.keras").get_weights()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status", "files", "arguments"),
    [
        (signal.SIGINT, 130, "checkpoints/1.json", ()),
        (signal.SIGTERM, 130, "checkpoints/3.json", ()),
        (signal.SIGKILL, -signal.SIGKILL, "checkpoints/2.json", ()),
        (signal.SIGKILL, -signal.SIGKILL, "checkpoints/4.json", ()),
        (signal.SIGKILL, -signal.SIGKILL, "checkpoints/5.npz.part", ()),
        (signal.SIGKILL, -signal.SIGKILL, "job.json", ("last", 1)),  # at the start of the race of learning rates
        (signal.SIGKILL, -signal.SIGKILL, "race.npz", ("last", 1)),
    ],
)
def test_a_job_goes_on_where_it_was_stopped(command, whole, tmp_path, number, status, files, arguments):
    out = tmp_path / "new" / "photos"
    # A shell lets what it runs in the background ignore SIGINT; the job shall have it as in the foreground.
    process = subprocess.Popen(
        command(out, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    start = time.monotonic()
    while not (out / ".unfinished" / files).exists():
        if process.poll() is not None:
            _, said = process.communicate()
            assert process.returncode == 0, said
            pytest.skip("the job was faster than this test")
        assert time.monotonic() < start + PATIENCE
        time.sleep(0.002)
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == status
    left = {path.name.split("-")[0] for path in out.iterdir()}
    assert left == {".lock", ".unfinished"} | ({".staging"} if number == signal.SIGKILL else set())
    if number != signal.SIGKILL:
        assert said.splitlines()[-1] == "keras-cnn fit: interrupted; run the same command again to resume."
    subprocess.run(command(out, *arguments), check=True, capture_output=True)
    assert sorted(path.name for path in out.iterdir()) == [".lock", "1", "report.html", "runs", "serving"]
    history, weights = outcome(out)
    assert history == whole(*arguments)[0]
    for ours, theirs in zip(weights, whole(*arguments)[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_a_job_stopped_before_it_trains_leaves_nothing(command, tmp_path):
    out = tmp_path / "new" / "photos"
    environment = {**os.environ, "KERAS_CNN_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(command(out), env=environment, stderr=subprocess.PIPE, text=True)
    start = time.monotonic()
    while not list(out.glob(".staging-*")):
        assert process.poll() is None and time.monotonic() < start + PATIENCE
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "keras-cnn fit: interrupted; nothing half-written is left."
    assert not out.parent.exists()
