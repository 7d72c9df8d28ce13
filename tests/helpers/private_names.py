"""The private names in a source text."""

import ast
import re

PRIVATE = re.compile(r"_[a-z]\w*")
OURS = ("self", "cls")


def accessed(source):
    """Private names that are read or set on something other than `self`, or written as a string, as for `getattr`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            name = "" if isinstance(node.value, ast.Name) and node.value.id in OURS else node.attr
        else:
            name = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        if PRIVATE.fullmatch(name):
            yield name


def methods(source):
    """Private methods."""
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    names = [node.name for owner in classes for node in owner.body if isinstance(node, ast.FunctionDef)]
    yield from filter(PRIVATE.fullmatch, names)
