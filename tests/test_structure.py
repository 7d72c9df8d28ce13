"""Imports point one way, TensorFlow stays where it must be, no function hides a module, and what is referred to exists."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.private_names import accessed, methods

ROOT = Path(__file__).parent.parent
# A room may import itself, its neighbours and the rooms before it.
ROOMS = (
    {
        "version",
        "geometry",
        "arguments",
        "preprocessing",
        "keras_internals",
        "cache_folder",
        "downloads",
        "archives",
        "autograph",
        "saved_model_handles",
        "durable",
        "scratch",
        "safety",
    },
    {"layers"},
    {"blocks", "heads"},
    {"builder", "surgery"},
    {"backbones"},
    {"training", "analysis"},
    {"images", "serving"},
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
ROOMS_OF_PIPELINES = (
    {"errors", "names", "device", "onednn", "progress", "augment", "sample"},
    {"settings", "catalog", "datasets"},
    {"recipes"},
    {"defaults", "doctor"},
    {"evaluation"},
    {"training"},
    {"runs"},
    {"report"},
    {"fine_tuning"},
    {"commands"},
    {"cli"},
)
LEVEL_IN_PIPELINES = {room: level for level, rooms in enumerate(ROOMS_OF_PIPELINES) for room in rooms}
MAY_USE_TENSORFLOW = {
    "autograph",
    "safety",
    "images",
    "layers/hub/module",
    "layers/hub/variants",
    "serving",
    "training",
    "analysis/explain/autodiff",
}
SOURCES = sorted((ROOT / "keras_cnn").rglob("*.py"))
PIPELINES = sorted((ROOT / "pipelines").rglob("*.py"))
PACKAGES = [path.parent for path in [*SOURCES, *PIPELINES] if path.name == "__init__.py"]


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


INTERNALS = ROOT / "keras_cnn" / "keras_internals.py"


@pytest.mark.parametrize(
    "path", [path for path in [*SOURCES, *PIPELINES] if path != INTERNALS], ids=lambda path: str(path.relative_to(ROOT))
)
def test_private_attributes_of_keras_are_named_in_one_file(path):
    assert not set(accessed(path.read_text())) & {*accessed(INTERNALS.read_text()), *methods(INTERNALS.read_text())}


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_of_pipelines_point_one_way(path):
    room = path.relative_to(ROOT / "pipelines").with_suffix("").parts[0]
    for name in imports(path):
        package, _, rest = name.partition(".")
        other = rest.split(".")[0]
        if package == "pipelines" and other in LEVEL_IN_PIPELINES and room != "__init__":
            assert LEVEL_IN_PIPELINES[other] <= LEVEL_IN_PIPELINES[room], f"{path} imports {name}"


def test_every_room_of_pipelines_has_its_place():
    rooms = {path.relative_to(ROOT / "pipelines").with_suffix("").parts[0] for path in PIPELINES} - {"__init__"}
    assert rooms == set(LEVEL_IN_PIPELINES)


def at_import(tree):
    """Dotted names that a module imports when it is imported itself: those in functions wait until they are called."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from at_import(node)


def file_of(name):
    """The file of the module that a dotted name is, or is in; None for modules of others."""
    path = ROOT.joinpath(*name.split("."))
    files = (path / "__init__.py", path.with_suffix(".py"), path.parent / "__init__.py", path.parent.with_suffix(".py"))
    return next((file for file in files if file.is_file()), None)


def imported_with(name):
    """Dotted name -> file that imports it, of all that comes with a module; packages above a module come with it too."""
    found, left = {}, [file_of(name)]
    seen = set()
    while left:
        file = left.pop()
        if file is None or file in seen:
            continue
        seen.add(file)
        for dotted in at_import(ast.parse(file.read_text())):
            found.setdefault(dotted, file)
            parts = dotted.split(".")
            left += [file_of(".".join(parts[: i + 1])) for i in range(len(parts))] if parts[0] == name else []
    return found


def test_the_library_is_imported_without_tensorflow():
    # Keras may run on JAX, where there is no TensorFlow; what needs it imports it when it is called.
    found = imported_with("keras_cnn")
    assert {"keras_cnn.serving.export", "keras_cnn.training.exact_resume.ExactResume"} < found.keys()
    assert not [f"{file}: {name}" for name, file in found.items() if name.split(".")[0] == "tensorflow"]


@pytest.mark.slow
def test_the_library_is_imported_where_tensorflow_is_not_to_be_had():
    # Keras has it by then: that Keras itself does without is its own affair.
    code = "import sys, keras; sys.modules['tensorflow'] = None; import keras_cnn as kc; kc.export, kc.training"
    subprocess.run([sys.executable, "-c", code], check=True)


def exported(package):
    """Names that the `__init__` of a package has from its modules, or defines: (name, module that it comes from)."""
    for node in ast.parse((package / "__init__.py").read_text()).body:
        if isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, node.module) for alias in node.names)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name, None


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_function_hides_a_module(package):
    """`keras_cnn.training.x` must be the module x of that package, or there is none."""
    modules = {path.stem for path in package.glob("*.py")} | {path.name for path in package.iterdir() if path.is_dir()}
    itself = ".".join(package.relative_to(ROOT).parts)
    assert not [name for name, module in exported(package) if name in modules and module != itself]


@pytest.mark.parametrize("path", [*SOURCES, *PIPELINES], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_bears_the_name_of_a_public_function_in_it(path):
    defined = {
        node.name for node in ast.parse(path.read_text()).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    assert path.stem not in defined


def references(path):
    """Dotted names of ours between backticks: in the texts of a module, or in a page."""
    text = path.read_text()
    if path.suffix == ".py":
        strings = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
        text = "\n".join(value for value in strings if isinstance(value, str))
    return set(re.findall(r"`((?:kc|keras_cnn|pipelines)(?:\.\w+)+)[`(\s]", text))


def resolves(dotted):
    """Whether a dotted name leads to something, field of a dataclass included."""
    first, *rest = dotted.replace("kc.", "keras_cnn.", 1).split(".") if dotted.startswith("kc.") else dotted.split(".")
    found = importlib.import_module(first)
    for name in rest:
        if hasattr(found, name):
            found = getattr(found, name)
        elif name in getattr(found, "__annotations__", {}):
            return True
        else:
            try:
                found = importlib.import_module(f"{found.__name__}.{name}")
            except (ImportError, AttributeError):
                return False
    return True


def test_what_texts_refer_to_exists():
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"]
    named = {(name, path) for path in [*SOURCES, *PIPELINES, *pages] for name in references(path)}
    assert len(named) > 100
    assert sorted({f"{path.relative_to(ROOT)}: {name}" for name, path in named if not resolves(name)}) == []


def test_help_does_not_wait_for_tensorflow():
    check = "import sys, pipelines.cli; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
