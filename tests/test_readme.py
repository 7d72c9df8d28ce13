"""Every command and every line of Python in the README runs. (`make demo` and `make test` are run by `.ci/run`.)"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import cli
from pipelines.sample import DIRECTORY

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
MAKE, *COMMANDS = [text for language, text in BLOCKS if not language]
PYTHON = [text for language, text in BLOCKS if language == "python"]


def test_the_first_commands_exist():
    root = Path(__file__).parent.parent
    ci = (root / ".ci" / "run").read_text()
    for command in MAKE.splitlines():
        assert (
            subprocess.run([*command.split(), "--dry-run"], cwd=root, capture_output=True, check=False).returncode == 0
        )
        assert command in ci


@pytest.mark.slow
@pytest.mark.parametrize("code", PYTHON)
def test_python(code, tmp_path):
    smaller = code.replace('"saved_models/photos")', '"saved_models/photos", size=96)')  # `make demo` is of full size
    subprocess.run([sys.executable, "-c", smaller], cwd=tmp_path, check=True)


@pytest.mark.slow
def test_commands(sample_photos, tmp_path, monkeypatch):
    shutil.copytree(sample_photos, tmp_path / "photos")
    for name in ("a.jpg", "b.png"):
        shutil.copy(DIRECTORY / "birds" / "duck.png", tmp_path / name)
    lines = [line for block in COMMANDS for line in block.splitlines()]
    assert len(lines) >= 4 and all(line.startswith("keras-cnn ") for line in lines)
    monkeypatch.chdir(tmp_path)
    for line in lines:
        if line.split()[1] == "fit":  # as a program of its own, the others in this process: that saves seconds for each
            subprocess.run([Path(sys.executable).parent / "keras-cnn", *line.split()[1:]], check=True)
        else:
            assert cli.main(line.split()[1:]) == 0
    assert Path("labels.csv").is_file()
