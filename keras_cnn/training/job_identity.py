"""What must be the same when a job resumes: the model, how it is trained, and the data."""

from __future__ import annotations

import hashlib
import json
import re
import warnings

import keras
import numpy as np

from keras_cnn.keras_internals import sublayers
from keras_cnn.surgery.graph import graph_of

COUNTER = re.compile(r"_\d+$")  # Keras numbers names within a process: "conv2d_1", "adam_2"
ADDRESS = re.compile(r" at 0x[0-9a-f]+")
# Seeds are in the checkpoint, as the state of their generators; a compile config within the model does not affect training.
NOT_COMPARED = ("shared_object_id", "seed", "compile_config", "build_config")
TOLERANCE = 0.02  # of the largest of some numbers: other processors round differently


def describe(model: keras.Model, data: dict, settings: dict) -> dict:
    """Strings, numbers and lists by name, as JSON takes them."""
    weights = [(weight.name, tuple(weight.shape), str(weight.dtype)) for weight in model.weights]
    parts = {
        "model": {"weights": _digest(weights), **_architecture(model)},
        "optimizer": _serialized(model.optimizer),
        "loss": _serialized(model.loss),
        "metrics": [(COUNTER.sub("", metric.name), len(metric.variables)) for metric in model.metrics],
        "trained weights": len(model.trainable_weights),
        "steps per execution": model.steps_per_execution,
        "data": data,
        "settings": settings,
    }
    return dict(_leaves("", json.loads(json.dumps(parts, default=_as_string))))


def check_same(old: dict, new: dict) -> None:
    """Raise ValueError, with the names of what differs, unless two jobs are the same."""
    changed = [name for name in {**old, **new} if not _equal(old.get(name), new.get(name))]
    if changed:
        listed = "; ".join(f"{name} is {new.get(name)!r}, was {old.get(name)!r}" for name in changed[:3])
        seeds = " Data must be the same each time they are read: give what is random a seed." * any(
            name.startswith("data values") for name in changed
        )
        raise ValueError(
            f"ExactResume: a job resumes with the same model, optimizer, data and settings. Received: {len(changed)} "
            f"difference{'s' * (len(changed) > 1)}: {listed}.{seeds} Name an empty directory for a new job."
        )


def _architecture(model):
    """The config of each layer, and a digest of how they are connected."""
    layers = enumerate(layer for layer in sublayers(model, include_self=False) if graph_of(layer) is None)
    names = {f"layer {index} ({COUNTER.sub('', layer.name)})": layer for index, layer in layers}
    connections = _digest(_connections(_config(model)))
    return {**{name: _layer(layer) for name, layer in names.items()}, "connections": connections}


def _layer(layer):
    """Short values as they are, so that a message can quote them, and a digest of the others."""
    config = _config(layer)
    short = {name: value for name, value in config.items() if isinstance(value, (str, int, float)) and name != "name"}
    return {**short, "rest": _digest({name: value for name, value in config.items() if name not in short})}


def _connections(config):
    """The config of a model without those of its layers."""
    layers = config.get("layers")
    if not isinstance(layers, list):
        return type(config).__name__
    inner = [{**layer, "config": _connections(layer.get("config", {}))} for layer in layers if isinstance(layer, dict)]
    return {**config, "layers": inner}


def _config(layer):
    """The config of a layer or model; for a custom one without a config, its class."""
    try:
        return _without_counters(layer.get_config)
    except Exception:  # custom code may raise anything
        return {"class": type(layer).__qualname__}


def _serialized(value):
    """An optimizer, a loss, or a structure of losses."""
    try:
        return _without_counters(lambda: keras.saving.serialize_keras_object(value))
    except Exception:  # custom code may raise anything
        return type(value).__qualname__


def _without_counters(get_config):
    with warnings.catch_warnings():  # Keras warns of lambdas, which are not loaded from here
        warnings.simplefilter("ignore")
        return _with_indices(get_config(), {})


def _with_indices(value, indices):
    """A config in which layers refer to each other by their index instead of their name."""
    if isinstance(value, dict):
        if value.get("class_name") == "__lambda__":
            return "a lambda"  # its code contains line numbers of its file
        layers = value.get("layers")
        if isinstance(layers, list):
            indices = {layer.get("name"): index for index, layer in enumerate(layers) if isinstance(layer, dict)}
        return {
            name: COUNTER.sub("", part) if name == "name" and isinstance(part, str) else _with_indices(part, indices)
            for name, part in value.items()
            if name not in NOT_COMPARED
        }
    if isinstance(value, (list, tuple)):
        is_reference = len(value) == 3 and isinstance(value[0], str) and value[0] in indices
        value = [indices[value[0]], *value[1:]] if is_reference else value
        return [_with_indices(part, indices) for part in value]
    return value


def _digest(value):
    return hashlib.sha256(json.dumps(value, default=_as_string).encode()).hexdigest()[:16]


def _as_string(value):
    """A value that JSON does not take, without addresses, which differ per process."""
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else ADDRESS.sub("", str(value))


def _leaves(prefix, value):
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(f"{prefix} {name}" if prefix else name, inner)
    else:
        yield prefix, value


def _equal(old, new):
    if old == new or not (_is_numbers(old) and _is_numbers(new) and len(old) == len(new)):
        return old == new
    return np.allclose(old, new, rtol=0, atol=TOLERANCE * np.abs(old).max(), equal_nan=True)


def _is_numbers(value):
    return isinstance(value, list) and bool(value) and all(isinstance(entry, float) for entry in value)
