"""`kc.analysis` shows its public names only, with types."""

import inspect

import pytest

from keras_cnn import analysis

METHODS = [
    member
    for cls in (analysis.Analysis, analysis.Row)
    for name, member in vars(cls).items()
    if callable(member) and not name.startswith("_")
]
FUNCTIONS = [getattr(analysis, name) for name in analysis.__all__ if inspect.isfunction(getattr(analysis, name))]


def test_dir_is_what_is_public():
    assert dir(analysis) == sorted(analysis.__all__)
    assert all(hasattr(analysis, name) for name in dir(analysis))


@pytest.mark.parametrize("function", FUNCTIONS + METHODS, ids=lambda function: function.__qualname__)
def test_public_callables_have_types(function):
    signature = inspect.signature(function)
    untyped = [name for name, one in signature.parameters.items() if one.annotation is one.empty and name != "self"]
    assert untyped == [] and signature.return_annotation is not signature.empty
