"""Watch the layers of any model while it runs, and step in.

No graph is cut or rebuilt: for the time of one run a layer's `call` is wrapped. So it does not matter whether the model
is flat or nested, functional or subclassed, built here or read from a file. No other thread may run it meanwhile.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import keras

from keras_cnn import arguments


class Call(NamedTuple):
    """One call of a layer in a run of a model.

    Attributes:
        name: Name of the layer, behind those of the models it is nested in: "backbone/conv1".
        number: How many calls of the layer came before.
        output: What it gave.
    """

    layer: keras.Layer
    name: str
    number: int
    output: Any


def watch(model, inputs):
    """The output of `model(inputs)`, and a `Call` for each call of a layer of it, nested ones too, as they end."""
    calls, names = [], dict(_layers(model))

    def record(layer, output):
        number = sum(call.layer is layer for call in calls)
        calls.append(Call(layer, names[layer], number, output))
        return output

    with ExitStack() as stack:
        for layer in names:
            stack.enter_context(after(layer, record))
        return model(inputs, training=False), calls


def run_from(model, inputs, call, value):
    """The output of `model(inputs)` if `call` had given `value`."""
    count = -1

    def exchange(layer, output):
        nonlocal count
        count += 1
        return value if count == call.number else output

    with after(call.layer, exchange):
        return model(inputs, training=False)


def feature_map(owner, argument, name, model, calls) -> Call:
    """The call that gave the feature map of layer `name`, "backbone/conv1" or just "conv1".

    None: the last map with more than one position.

    Raises:
        ValueError: If there is none, or several; it speaks of `argument` of `owner`.
    """
    maps = [call for call in calls if len(getattr(call.output, "shape", ())) == 4]
    if name is None:
        maps = [call for call in maps if _positions(call.output) > 1]
        if maps:
            return maps[-1]
        raise ValueError(arguments.message(owner, "model", "one with a feature map of 4 axes", model.name))
    found = [call for call in maps if name in (call.name, call.layer.name)]
    if len(found) == 1:
        return found[0]
    if found:
        remedy = f"The model runs {len(found)} of that name: {', '.join(repr(call.name) for call in found)}."
        raise ValueError(arguments.message(owner, argument, "a layer that is run once", name, remedy))
    last = ", ".join(repr(call.name) for call in maps[-5:]) or "none"
    remedy = f"The last ones are: {last}."
    raise ValueError(
        arguments.message(owner, argument, "the name of a layer with a feature map of 4 axes", name, remedy)
    )


@contextmanager
def after(layer, function):
    """For the time being, what `layer` gives is `function(layer, output)`."""
    call = layer.call

    def wrapped(*args, **kwargs):
        return function(layer, call(*args, **kwargs))

    with exchanged(layer, "call", wrapped):
        yield


@contextmanager
def exchanged(thing, name, value):
    """For the time being, attribute `name` of `thing` is `value`."""
    own, before = name in vars(thing), getattr(thing, name)
    setattr(thing, name, value)
    try:
        yield
    finally:
        if own:
            setattr(thing, name, before)
        else:
            delattr(thing, name)


def _layers(model, prefix=""):
    for layer in model.layers:
        yield layer, prefix + layer.name
        if isinstance(layer, keras.Model):
            yield from _layers(layer, f"{prefix}{layer.name}/")


def _positions(x):
    channels = 1 if keras.config.image_data_format() == "channels_first" else 3
    return x.shape[1] * x.shape[2] * x.shape[3] // x.shape[channels]
