"""A job that is stopped in the middle, as real processes: nothing is left that TF Serving could load."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).parent / "keras-cnn"
PATIENCE = 120


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_job_stopped_in_the_middle(sample_photos, tmp_path, number, status):
    out = tmp_path / "new" / "photos"
    command = [PROGRAM, "fit", sample_photos, "--out", out, "--epochs", "1"]
    # A shell lets what it runs in the background ignore SIGINT; the job shall have it as in the foreground.
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    start = time.monotonic()
    while not list(out.glob(".staging-*/train_plain.npy")):  # the features are being computed
        assert process.poll() is None and time.monotonic() < start + PATIENCE
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == status
    if number == signal.SIGKILL:
        assert {path.name.split("-")[0] for path in out.iterdir()} == {".lock", ".staging"}
    else:
        assert said == "keras-cnn fit: interrupted; nothing half-written is left.\n"
        assert list(tmp_path.iterdir()) == []
    # The same command works afterwards, and clears up.
    subprocess.run(command, check=True, capture_output=True)
    assert sorted(path.name for path in out.iterdir()) == [".lock", "1", "report.html", "runs", "serving"]
