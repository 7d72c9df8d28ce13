"""The wheel holds what the program needs, and works where the project's folder is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
USE = """
import keras_cnn as kc, pipelines.report.html
from keras_cnn.safety import operations
from pipelines.sample import DIRECTORY
backbone = kc.load_backbone("efficientnet_lite0", input_shape=(32, 32, 3))
counts = len(list(DIRECTORY.glob("*/*.png"))), len(list(pipelines.report.html.FOLDER.glob("*.html")))
print(kc.__file__, *counts, len(backbone.stages), operations.effect("ReadFile").replace(" ", "-"))
"""


@pytest.mark.slow
def test_a_wheel_works_from_an_empty_folder(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True)
    (tmp_path / "empty").mkdir()
    output = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=tmp_path / "empty",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert output == [str(tmp_path / "site" / "keras_cnn" / "__init__.py"), "376", "4", "5", "reads-files"]
    assert (tmp_path / "site" / "bin" / "keras-cnn").is_file()
