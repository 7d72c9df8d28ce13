"""Python values as JSON and a list of arrays, and back; unlike with `pickle`, reading them runs no code.

A value that JSON has is itself, any other is a list that begins with its kind. Variables, and lists and objects that others may
refer to, are not replaced: the saved content goes into the existing ones.
"""

from __future__ import annotations

import json
import random
import sys
import types
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from functools import singledispatch
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_cnn.keras_internals import SET_BY_FIT

COLLECTIONS = {kind.__name__: kind for kind in (list, tuple, set, frozenset, deque)}
MAPPINGS = {kind.__name__: kind for kind in (dict, OrderedDict, Counter, defaultdict)}
OPAQUE = {"keras", "tensorflow", "numpy", *sys.stdlib_module_names}  # packages whose objects have hidden state
MAX_DEPTH = 5  # of values within values


def to_plain(
    value: Any, arrays: list, skipped: frozenset[int] = frozenset(), unsupported: list[str] | None = None
) -> Any:
    """A value as JSON takes it.

    Args:
        value: Any value.
        arrays: A list to which its arrays are appended.
        skipped: ids of variables to leave out.
        unsupported: A list to which the class names of unsupported values are appended; such a value is written as its `id`.
    """
    return _plain(value, _Writer(arrays, skipped, [] if unsupported is None else unsupported))


def from_plain(plain: Any, arrays: list, live: Any = None) -> Any:
    """The value that `to_plain` converted.

    Args:
        plain: What `to_plain` returned.
        arrays: The list with the arrays.
        live: The existing value, whose variables and containers are filled.
    """
    if not isinstance(plain, list):
        return plain
    kind, content = plain
    return READERS[kind](content, arrays, live)


def attributes(owner: object) -> dict[str, Any]:
    """The attributes of an object; of a callback without those that `fit` sets."""
    excluded = SET_BY_FIT if isinstance(owner, keras.callbacks.Callback) else ()
    return {name: value for name, value in vars(owner).items() if name not in excluded}


def restore_attributes(owner: object, saved: dict[str, Any], arrays: list) -> None:
    """Set attributes of an object to their saved values."""
    for name, plain in saved.items():
        vars(owner)[name] = from_plain(plain, arrays, vars(owner).get(name))


class _Writer:
    """Where arrays go, and how many more levels of nesting are written."""

    def __init__(self, arrays, skipped, unsupported, depth=MAX_DEPTH):
        self.arrays, self.skipped, self.unsupported, self.depth = arrays, skipped, unsupported, depth

    def add(self, array):
        self.arrays.append(np.asarray(array))
        return len(self.arrays) - 1

    def nested(self, values):
        deeper = _Writer(self.arrays, self.skipped, self.unsupported, self.depth - 1)
        return [_plain(value, deeper) for value in values]

    def give_up(self, value):
        self.unsupported.append(type(value).__name__)
        return ["unsupported", id(value)]


@singledispatch
def _plain(value, to):
    """An object of any other class: its attributes, if it has no hidden state."""
    package = type(value).__module__.partition(".")[0]
    is_transparent = isinstance(value, (keras.callbacks.Callback, types.SimpleNamespace))
    if not hasattr(value, "__dict__") or not to.depth or (package in OPAQUE and not is_transparent):
        return to.give_up(value)
    own = attributes(value)
    return ["object", dict(zip(own, to.nested(own.values()), strict=True))]


@_plain.register(bool | int | float | str | None)
def _(value, to):
    return value


@_plain.register(bytes)
def _(value, to):
    return ["bytes", value.hex()]


@_plain.register(np.ndarray)
def _(value, to):
    return to.give_up(value) if value.dtype.hasobject else ["array", to.add(value)]


@_plain.register(np.generic)
def _(value, to):
    return ["scalar", to.add(value)]


@_plain.register(tf.Tensor)
def _(value, to):
    is_array = hasattr(value, "numpy") and value.dtype not in (tf.string, tf.variant, tf.resource)
    return ["tensor", to.add(value.numpy())] if is_array else to.give_up(value)


@_plain.register(keras.Variable | tf.Variable)
def _(value, to):
    kind = "keras variable" if isinstance(value, keras.Variable) else "variable"
    return [kind, to.add(keras.ops.convert_to_numpy(value))]


@_plain.register(keras.layers.Layer | keras.metrics.Metric | keras.optimizers.Optimizer)
def _(value, to):
    return ["variables", to.nested(None if id(variable) in to.skipped else variable for variable in value.variables)]


@_plain.register(keras.random.SeedGenerator)
def _(value, to):
    return ["seed", to.nested([value.state])[0]]


@_plain.register(types.FunctionType | types.BuiltinFunctionType | type | np.ufunc)
def _(value, to):
    name = [getattr(value, "__module__", None) or "numpy", getattr(value, "__qualname__", value.__name__)]
    return ["function", name] if _by_name(name) is value else to.give_up(value)


@_plain.register(random.Random)
def _(value, to):
    return ["random", to.nested([value.getstate()])[0]]


@_plain.register(np.random.Generator)
def _(value, to):
    return ["generator", to.nested([value.bit_generator.state])[0]]


@_plain.register(list | tuple | set | frozenset | deque)
def _(value, to):
    kind = type(value).__name__
    if COLLECTIONS.get(kind) is not type(value) or not to.depth:
        return to.give_up(value)
    entries = to.nested(value)
    return ["collection", [kind, sorted(entries, key=json.dumps) if isinstance(value, (set, frozenset)) else entries]]


@_plain.register(dict)
def _(value, to):
    kind = type(value).__name__
    if MAPPINGS.get(kind) is not type(value) or not to.depth:
        return to.give_up(value)
    (factory,) = to.nested([getattr(value, "default_factory", None)])
    return ["mapping", [kind, factory, to.nested(value), to.nested(value.values())]]


def _by_name(name):
    """The function or class of that module and name, if the module is loaded; nothing is imported."""
    module, qualified = name
    found = sys.modules.get(module)
    for part in qualified.split("."):
        found = getattr(found, part, None)
    return found


def _object(content, arrays, live):
    if live is None:
        warnings.warn(
            f"An object with the attributes {', '.join(content)} cannot be restored, since the callback does not make it in "
            "__init__. It is None now. Make it in __init__.",
            stacklevel=2,
        )
    else:
        restore_attributes(live, content, arrays)
    return live


def _variable(number, arrays, live, make):
    if not isinstance(live, keras.Variable | tf.Variable):
        return make(arrays[number])
    live.assign(arrays[number])
    return live


def _variables(content, arrays, live):
    for plain, variable in zip(content, getattr(live, "variables", ()), strict=False):
        from_plain(plain, arrays, variable)
    return live


def _seed(content, arrays, live):
    live = live if isinstance(live, keras.random.SeedGenerator) else keras.random.SeedGenerator()
    from_plain(content, arrays, live.state)
    return live


def _random(content, arrays, live):
    live = live if isinstance(live, random.Random) else random.Random()
    live.setstate(from_plain(content, arrays))
    return live


def _generator(content, arrays, live):
    state = from_plain(content, arrays)
    if not isinstance(live, np.random.Generator):
        live = np.random.Generator(getattr(np.random, state["bit_generator"])())
    live.bit_generator.state = state
    return live


def _collection(content, arrays, live):
    kind, entries = content
    existing = list(live) if isinstance(live, (list, tuple)) and len(live) == len(entries) else [None] * len(entries)
    values = COLLECTIONS[kind](from_plain(entry, arrays, old) for entry, old in zip(entries, existing, strict=True))
    if type(live) is not type(values) or isinstance(values, (tuple, frozenset)):
        return values
    live.clear()
    (live.update if isinstance(values, set) else live.extend)(values)
    return live


def _mapping(content, arrays, live):
    kind, factory, keys, values = content
    keys = [from_plain(key, arrays) for key in keys]
    old = live if isinstance(live, dict) else {}
    pairs = {key: from_plain(value, arrays, old.get(key)) for key, value in zip(keys, values, strict=True)}
    if type(live) is not MAPPINGS[kind]:
        return defaultdict(from_plain(factory, arrays), pairs) if kind == "defaultdict" else MAPPINGS[kind](pairs)
    live.clear()
    live.update(pairs)
    return live


READERS = {
    "array": lambda number, arrays, live: arrays[number],
    "bytes": lambda text, arrays, live: bytes.fromhex(text),
    "collection": _collection,
    "function": lambda name, arrays, live: _by_name(name),
    "generator": _generator,
    "keras variable": lambda number, arrays, live: _variable(number, arrays, live, keras.Variable),
    "mapping": _mapping,
    "object": _object,
    "random": _random,
    "scalar": lambda number, arrays, live: arrays[number][()],
    "seed": _seed,
    "tensor": lambda number, arrays, live: tf.constant(arrays[number]),
    "variable": lambda number, arrays, live: _variable(number, arrays, live, tf.Variable),
    "variables": _variables,
}
