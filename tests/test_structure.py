"""Imports point one way, TensorFlow stays where it must be, and no module hides a public function."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import keras_cnn
import pipelines

ROOT = Path(__file__).parent.parent
# A room may import itself, its neighbours and the rooms before it.
ROOMS = (
    {"version", "geometry", "arguments", "preprocessing", "keras_internals", "fetching"},
    {"layers"},
    {"blocks", "heads"},
    {"builder", "surgery"},
    {"backbones"},
    {"training", "analysis"},
    {"images", "serving"},
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
MAY_USE_TENSORFLOW = {
    "images",
    "layers/hub/module",
    "layers/hub/variants",
    "serving",
    "training",
    "analysis/explain/autodiff",
}
SOURCES = sorted((ROOT / "keras_cnn").rglob("*.py"))


def imports(path):
    """Dotted names that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    parts = path.relative_to(ROOT / "keras_cnn").with_suffix("").parts
    for name in imports(path):
        top, _, rest = name.partition(".")
        assert top != "pipelines"
        if top == "tensorflow":
            assert {parts[0], "/".join(parts)} & MAY_USE_TENSORFLOW
        if top == "keras_cnn" and rest and parts[0] != "__init__":
            assert LEVEL[rest.split(".")[0]] <= LEVEL[parts[0]], f"{path} imports {name}"


def test_no_module_bears_the_name_of_a_public_function():
    for package in (keras_cnn, keras_cnn.analysis, pipelines):
        functions = {name for name in package.__all__ if callable(getattr(package, name))}
        modules = {path.stem for path in Path(package.__file__).parent.rglob("*.py")}
        folders = {path.name for path in Path(package.__file__).parent.rglob("*") if path.is_dir()}
        assert not functions & (modules | folders)


def test_help_does_not_wait_for_tensorflow():
    check = "import sys, pipelines.cli; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
