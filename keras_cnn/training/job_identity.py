"""What must be the same when a job resumes: the model, how it is trained, and the data."""

from __future__ import annotations

import hashlib
import json
import re
import warnings

import keras
import numpy as np

from keras_cnn.surgery.graph import graph_of

NUMBERED = re.compile(r"_\d+$")  # Keras counts names up within a process: "conv2d_1", "adam_2"
ADDRESS = re.compile(r" at 0x[0-9a-f]+")
# Seeds are in the checkpoint, as the state of their generators; what is compiled within the model does not train it.
NOT_COMPARED = ("shared_object_id", "seed", "compile_config", "build_config")
CLOSE = 0.02  # of the largest of some numbers: other processors round otherwise


def describe(model: keras.Model, data: dict, settings: dict) -> dict:
    """Texts, numbers and lists by name, as JSON takes them."""
    weights = [(weight.name, tuple(weight.shape), str(weight.dtype)) for weight in model.weights]
    parts = {
        "model": {"weights": _digest(weights), **_architecture(model)},
        "optimizer": _serialized(model.optimizer),
        "loss": _serialized(model.loss),
        "metrics": [(NUMBERED.sub("", metric.name), len(metric.variables)) for metric in model.metrics],
        "trained weights": len(model.trainable_weights),
        "steps per execution": model.steps_per_execution,
        "data": data,
        "settings": settings,
    }
    return dict(_leaves("", json.loads(json.dumps(parts, default=_text))))


def refuse_another(old: dict, new: dict) -> None:
    """Raises ValueError, with the names of what differs, unless two jobs are the same."""
    changed = [name for name in {**old, **new} if not _alike(old.get(name), new.get(name))]
    if changed:
        listed = "; ".join(f"{name} is {new.get(name)!r}, was {old.get(name)!r}" for name in changed[:3])
        seeds = " Data must be the same each time they are read: give what is random a seed." * any(
            name.startswith("data values") for name in changed
        )
        raise ValueError(
            f"ExactResume: a job resumes with what it began with. Received: {len(changed)} "
            f"difference{'s' * (len(changed) > 1)}: {listed}.{seeds} Name an empty folder for a new job."
        )


def _architecture(model):
    """Of each layer what its config says, and a digest of how they are connected."""
    layers = enumerate(layer for layer in model._flatten_layers(include_self=False) if graph_of(layer) is None)
    names = {f"layer {number} ({NUMBERED.sub('', layer.name)})": layer for number, layer in layers}
    connections = _digest(_connections(_config(model)))
    return {**{name: _layer(layer) for name, layer in names.items()}, "connections": connections}


def _layer(layer):
    """What is short as it is, so that a message can name it, and a digest of the rest."""
    config = _config(layer)
    short = {name: value for name, value in config.items() if isinstance(value, (str, int, float)) and name != "name"}
    return {**short, "rest": _digest({name: value for name, value in config.items() if name not in short})}


def _connections(config):
    """The config of a model without those of its layers."""
    layers = config.get("layers")
    if not isinstance(layers, list):
        return type(config).__name__
    within = [{**layer, "config": _connections(layer.get("config", {}))} for layer in layers if isinstance(layer, dict)]
    return {**config, "layers": within}


def _config(layer):
    """Of a layer or model; of one of the user's that has none, its class."""
    try:
        return _without_numbers(layer.get_config)
    except Exception:  # whatever the code of others does
        return {"class": type(layer).__qualname__}


def _serialized(thing):
    """An optimizer, a loss, or a structure of losses."""
    try:
        return _without_numbers(lambda: keras.saving.serialize_keras_object(thing))
    except Exception:
        return type(thing).__qualname__


def _without_numbers(write):
    with warnings.catch_warnings():  # Keras warns of lambdas, which nobody is going to load from here
        warnings.simplefilter("ignore")
        return _unnumbered(write(), {})


def _unnumbered(value, places):
    """A config in which layers refer to each other by their place instead of their name."""
    if isinstance(value, dict):
        if value.get("class_name") == "__lambda__":
            return "a lambda"  # its code names lines of its file
        layers = value.get("layers")
        if isinstance(layers, list):
            places = {layer.get("name"): place for place, layer in enumerate(layers) if isinstance(layer, dict)}
        return {
            name: NUMBERED.sub("", part) if name == "name" and isinstance(part, str) else _unnumbered(part, places)
            for name, part in value.items()
            if name not in NOT_COMPARED
        }
    if isinstance(value, (list, tuple)):
        reference = len(value) == 3 and isinstance(value[0], str) and value[0] in places
        value = [places[value[0]], *value[1:]] if reference else value
        return [_unnumbered(part, places) for part in value]
    return value


def _digest(thing):
    return hashlib.sha256(json.dumps(thing, default=_text).encode()).hexdigest()[:16]


def _text(thing):
    """Of what JSON does not know: without addresses, which are others in each process."""
    return thing.tolist() if isinstance(thing, (np.ndarray, np.generic)) else ADDRESS.sub("", str(thing))


def _leaves(prefix, value):
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(f"{prefix} {name}" if prefix else name, inner)
    else:
        yield prefix, value


def _alike(old, new):
    if old == new or not (_is_numbers(old) and _is_numbers(new) and len(old) == len(new)):
        return old == new
    return np.allclose(old, new, rtol=0, atol=CLOSE * np.abs(old).max(), equal_nan=True)


def _is_numbers(value):
    return isinstance(value, list) and bool(value) and all(isinstance(entry, float) for entry in value)
