"""Captures the outputs of the layers of any model while it runs, and replaces them.

No graph is cut or rebuilt: during one run a layer's `call` is wrapped. So the model may be flat or nested, functional or
subclassed, new or loaded from a file. No other thread may run it at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import keras

from keras_cnn import arguments


class CapturedCall(NamedTuple):
    """One call of a layer in a run of a model.

    Attributes:
        layer: The layer.
        name: Name of the layer, after those of the models it is nested in: "backbone/conv1".
        number: How many calls of the layer came before.
        output: The output of the call.
    """

    layer: keras.Layer
    name: str
    number: int
    output: Any


def capture_outputs(model: keras.Model, inputs: Any) -> tuple[Any, list[CapturedCall]]:
    """The output of `model(inputs)`, and a `CapturedCall` for each call of one of its layers, nested ones too, as they end."""
    calls = []
    names = dict(_named_layers(model))

    def capture(layer, output):
        number = sum(call.layer is layer for call in calls)
        calls.append(CapturedCall(layer, names[layer], number, output))
        return output

    with ExitStack() as stack:
        for layer in names:
            stack.enter_context(output_passed_through(layer, capture))
        return model(inputs, training=False), calls


def run_with_output(model: keras.Model, inputs: Any, call: CapturedCall, value: Any) -> Any:
    """The output of `model(inputs)` with `value` as the output of `call`."""
    count = -1

    def replace(layer, output):
        nonlocal count
        count += 1
        return value if count == call.number else output

    with output_passed_through(call.layer, replace):
        return model(inputs, training=False)


def find_feature_map(
    owner: str, argument: str, name: str | None, model: keras.Model, calls: Sequence[CapturedCall]
) -> CapturedCall:
    """The call whose output is the feature map of layer `name`, "backbone/conv1" or just "conv1".

    Args:
        owner: The public function that errors name.
        argument: Its argument that has the name.
        name: Name of the layer. None: that of the last map with more than one position.
        model: The model that was run.
        calls: From `capture_outputs`.

    Raises:
        ValueError: If there is no such map, or more than one.
    """
    maps = [call for call in calls if len(getattr(call.output, "shape", ())) == 4]
    if name is None:
        maps = [call for call in maps if _num_positions(call.output) > 1]
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
def output_passed_through(layer: keras.Layer, function: Callable[[keras.Layer, Any], Any]) -> Iterator[None]:
    """During the `with` block the output of `layer` is `function(layer, output)`."""
    call = layer.call

    def wrapped(*args, **kwargs):
        return function(layer, call(*args, **kwargs))

    with patched(layer, "call", wrapped):
        yield


@contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    """During the `with` block attribute `name` of `owner` is `value`."""
    own = name in vars(owner)
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def _named_layers(model, prefix=""):
    for layer in model.layers:
        yield layer, prefix + layer.name
        if isinstance(layer, keras.Model):
            yield from _named_layers(layer, f"{prefix}{layer.name}/")


def _num_positions(x):
    channels = 1 if keras.config.image_data_format() == "channels_first" else 3
    return x.shape[1] * x.shape[2] * x.shape[3] // x.shape[channels]
