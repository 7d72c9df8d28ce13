"""Public callables have complete type hints, and those of layers, blocks, heads and geometry describe every parameter."""

import importlib
import importlib.resources
import inspect
import re
import typing

import pytest

import keras_cnn
from pipelines import Catalog, fine_tune

MODULES = ("", ".layers", ".blocks", ".heads", ".training", ".analysis", ".images", ".geometry")
DESCRIBED = ("layers.", "blocks.", "heads.", "geometry.")
COMPLETE = (*DESCRIBED, "build", "attach", "Preprocessing")


def public_callables():
    """{name: function or class} of what users call: exported names, and the public methods of exported classes."""
    found = {"fine_tune": fine_tune, "Catalog": Catalog, **methods("Catalog", Catalog)}
    for suffix in MODULES:
        module = importlib.import_module(f"keras_cnn{suffix}")
        for name in module.__all__:
            value = getattr(module, name)
            path = f"{suffix[1:]}.{name}" if suffix else name
            if inspect.isclass(value) and issubclass(value, Exception):
                continue
            if callable(value):
                found[path] = value
            if inspect.isclass(value):
                found |= methods(path, value)
    return found


def methods(path, cls):
    """The public methods that the project, not Keras, defines."""
    return {
        f"{path}.{name}": getattr(member, "__func__", member)
        for base in cls.__mro__
        if base.__module__.startswith(("keras_cnn", "pipelines"))
        for name, member in vars(base).items()
        if not name.startswith("_") and inspect.isfunction(getattr(member, "__func__", member))
    }


CALLABLES = public_callables()


def untyped(function):
    """Names of the parameters without a type, and "return"."""
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if not inspect.isclass(function) and parameters and parameters[0].name in ("self", "cls"):
        parameters = parameters[1:]
    missing = [parameter.name for parameter in parameters if parameter.annotation is parameter.empty]
    returns = inspect.isclass(function) or signature.return_annotation is not signature.empty
    return missing if returns else [*missing, "return"]


def test_public_callables_have_complete_type_hints():
    missing = {path: untyped(function) for path, function in CALLABLES.items()}
    assert {path: names for path, names in missing.items() if names} == {}


@pytest.mark.parametrize("path", [path for path in CALLABLES if path.startswith(COMPLETE)])
def test_type_hints_can_be_evaluated(path):
    function = CALLABLES[path]
    typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)


@pytest.mark.parametrize(
    "path", [path for path, value in CALLABLES.items() if path.startswith(DESCRIBED) and path.count(".") == 1]
)
def test_every_parameter_is_described(path):
    function = CALLABLES[path]
    parameters = set(inspect.signature(function).parameters)
    section = re.search(r"^Args:\n((?:    .*\n|\n)+)", inspect.getdoc(function) + "\n", re.MULTILINE)
    lines = re.findall(r"^    (\w[\w, ]*):", section[1], re.MULTILINE) if section else []
    assert {name for line in lines for name in line.split(", ")} == parameters


def test_completion_shows_public_names_only():
    for module in (keras_cnn.layers, keras_cnn.blocks, keras_cnn.heads, keras_cnn.geometry):
        assert dir(module) == sorted(module.__all__)


def test_packages_say_that_they_are_typed():
    for name in ("keras_cnn", "pipelines"):
        assert importlib.resources.files(name).joinpath("py.typed").is_file()
