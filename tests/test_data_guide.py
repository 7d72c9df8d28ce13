"""What the sections on sources and the doctor of docs/data.md show, runs."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers.serving_cases import in_this_process

from keras_cnn.serving import verification
from pipelines import cli

GUIDE = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
SOURCES, DOCTOR = GUIDE.split("\n## ")[1:3]
COMMANDS = re.findall(r"^(keras-cnn .*)$", SOURCES + DOCTOR, re.MULTILINE)
(SOURCES_CODE,) = re.findall(r"^```python\n(.*?)^```$", SOURCES, re.MULTILINE | re.DOTALL)


@pytest.fixture
def here(sample_photos, tmp_path, monkeypatch):
    """A working folder with what the guide names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_CNN_CACHE", str(tmp_path / "cache"))
    shutil.copytree(sample_photos, "photos")
    shutil.copytree(sample_photos, "nested/all")
    files = sorted(Path("photos").rglob("*.png"))
    rows = [
        f"{path},{path.parent.name},{('test', 'train')[k % 3 > 0]},{k % 3} {k // 6}" for k, path in enumerate(files)
    ]
    Path("labels.csv").write_text("\n".join(["path,fine,part,shop", *rows]))
    tags = np.random.default_rng(0).integers(0, 2, (len(files), 3))
    rows = [f"{path},{a},{b},{c}" for path, (a, b, c) in zip(files, tags, strict=True)]
    Path("tags.csv").write_text("\n".join(["path,cat,dog,night", *rows]))
    for name in ("train-0", "test-0"):
        with tf.io.TFRecordWriter(name) as writer:
            example = tf.train.Example()
            example.features.feature["image/encoded"].bytes_list.value.append(files[0].read_bytes())
            example.features.feature["image/class/label"].int64_list.value.append(3)
            writer.write(example.SerializeToString())
    return tmp_path


def test_sources(here):
    exec(SOURCES_CODE, {})
    # Six equal images and the one in both records: kept under their content, copies by number.
    assert sum(path.is_file() for path in (here / "cache" / "images").rglob("*")) == 8


@pytest.mark.slow
def test_commands(here, monkeypatch):
    monkeypatch.setattr(verification, "_run", in_this_process)  # the commands of the README start a process
    assert len(COMMANDS) == 9
    for line in COMMANDS:
        extra = ["--epochs", "0", "--size", "64"] if line.split()[1] == "fit" else []
        assert cli.main([*line.split()[1:], *extra]) == 0
