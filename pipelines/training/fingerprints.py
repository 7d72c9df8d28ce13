"""What decides the answers of a network, as one digest: its layers and their options, how they are connected, its weights."""

from __future__ import annotations

import hashlib
import json
import types
from itertools import count

import keras
import numpy as np

from keras_cnn.keras_internals import sublayers
from keras_cnn.surgery.graph import graph_of, nodes_of

LIBRARIES = {"builtins", "jax", "keras", "keras_cnn", "keras_hub", "numpy", "tensorflow", "torch"}
WITHOUT_EFFECT = {"name", "trainable", "built"}  # names are counted up from one network to the next
PLAIN = (str, bytes, int, float, complex, bool, type(None), type(...))
DATA = (*PLAIN, tuple, list, dict, set, frozenset, np.ndarray)


def network_digest(model: keras.Model) -> str:
    """The same for equal layers that are connected alike and have equal weights, whatever they are called.

    Args:
        model: Any model. Of layers that are not of Keras the code counts too: that of their own class, of the functions they
            were given, and plain numbers and texts that it refers to.
    """
    found = hashlib.sha256(json.dumps(_layer(model), sort_keys=True).encode())
    for weight in model.weights:
        found.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight)).data)
    return found.hexdigest()


def _layer(layer):
    """A layer, operation or model as plain values."""
    graph = graph_of(layer)
    if graph is not None:
        return _graph(graph)
    within = sublayers(layer, include_self=False, recursive=False) if isinstance(layer, keras.layers.Layer) else ()
    given = [_function(value) for value in vars(layer).values() if isinstance(value, types.FunctionType)]
    return [_class(type(layer)), _plain(_options(layer)), given, [_layer(one) for one in within]]


def _graph(graph):
    """Inputs, calls and outputs; a tensor is known by its number, a layer that is called again by that of its first call."""
    numbers, layers, free = {}, {}, count()

    def number(tensors):
        numbers.update((id(x), next(free)) for x in tensors)

    def tensor_or_plain(value):
        return {"tensor": numbers[id(value)]} if isinstance(value, keras.KerasTensor) else _plain(value)

    number(graph.inputs)
    calls = []
    for node in nodes_of(graph):
        if any(id(x) not in numbers for x in node.input_tensors):
            continue  # a call of these layers in another model
        known = layers.get(id(node.operation))
        layers.setdefault(id(node.operation), len(layers))
        arguments = node.arguments.convert(tensor_or_plain)
        calls.append([_layer(node.operation) if known is None else known, arguments])
        number(node.outputs)
    return [[(x.shape, x.dtype) for x in graph.inputs], calls, [numbers[id(x)] for x in graph.outputs]]


def _options(layer):
    try:
        options = layer.get_config()
    except Exception:  # a layer that cannot be saved, or whose own `get_config` fails
        options = {name: value for name, value in vars(layer).items() if not name.startswith("_")}
    return {name: value for name, value in options.items() if name not in WITHOUT_EFFECT}


def _plain(value):
    """A value as JSON has it, without addresses and whatever else is another one in the next process."""
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, dict):
        if _is_described_elsewhere(value):
            return value["class_name"]
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, (set, frozenset)):
        return sorted(json.dumps(_plain(one), sort_keys=True) for one in value)
    if isinstance(value, (np.ndarray, np.generic, keras.Variable)) or keras.ops.is_tensor(value):
        array = np.asarray(keras.ops.convert_to_numpy(value))
        return [str(array.dtype), array.shape, hashlib.sha256(np.ascontiguousarray(array)).hexdigest()]
    if isinstance(value, types.FunctionType):
        return _function(value)
    if isinstance(value, type):
        return _class(value)
    if isinstance(value, keras.layers.Layer):
        return type(value).__qualname__  # it is among those within
    return [_class(type(value)), _plain(value.get_config()) if hasattr(value, "get_config") else None]


def _is_described_elsewhere(config):
    """Whether it is that of a layer, which is among those within, or a Python lambda's, whose bytes are others each time."""
    inner = config.get("config")
    return config.get("class_name") == "__lambda__" or (isinstance(inner, dict) and "trainable" in inner)


def _class(kind):
    """The name of a class; of one that is not of a library its code too, and that of the classes it is made from."""
    own = [one for one in reversed(kind.__mro__) if not _of_library(one)]
    methods = {name: value for one in own for name, value in vars(one).items() if isinstance(value, types.FunctionType)}
    return [kind.__module__, kind.__qualname__, {name: _function(value) for name, value in methods.items()}]


def _function(function):
    if _of_library(function):
        return [function.__module__, function.__qualname__]
    names = {name: function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__}
    held = [_content(cell) for cell in function.__closure__ or ()]
    data = {name: value for name, value in names.items() if isinstance(value, DATA)}
    return [_code(function.__code__), _plain([function.__defaults__, function.__kwdefaults__, held, data])]


def _content(cell):
    try:
        return cell.cell_contents if isinstance(cell.cell_contents, DATA) else None
    except ValueError:  # nothing is in it yet
        return None


def _code(code):
    constants = [_code(one) if isinstance(one, types.CodeType) else _constant(one) for one in code.co_consts]
    return [code.co_code.hex(), code.co_names, code.co_varnames, constants]


def _constant(value):
    return sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)


def _of_library(thing):
    return str(thing.__module__).split(".")[0] in LIBRARIES
