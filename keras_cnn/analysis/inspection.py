"""`kc.analyze` and `kc.analysis.receptive_field`: a model's calls, followed one after the other."""

from __future__ import annotations

import math
import re

import keras

from keras_cnn.analysis.costs import Cost, elements
from keras_cnn.analysis.following import Follower
from keras_cnn.analysis.graph import UntraceableError, calls_of
from keras_cnn.analysis.record import Analysis, Row
from keras_cnn.analysis.rules import rule
from keras_cnn.geometry import Field

NO_FIELD = Field(0, 0, 0)


def analyze(model: keras.Model, input_shape=None) -> Analysis:
    """Receptive field, parameters and cost of every layer of a model, without running it.

    Nested models are laid open; a layer that is called twice has two rows. Layers without a rule (attention, layers of
    others) are followed through their `call` where that is written in Keras layers and `keras.ops`; a layer that cannot
    be followed has an unknown field and no cost, and `notes` names it. Fields are those at inference, of the first input.

    Args:
        model: Any built `keras.Model`: functional, Sequential, nested, or a subclass whose `call` can be followed.
        input_shape: Without batch, such as (320, 320, 3); for several inputs a list of shapes. None: the model's own. A
            size of None leaves MACs and memory unknown, and the padding of "same" behind a stride.

    Returns:
        `Analysis`, with `rows`, `receptive_field`, `misaligned`, `parameters`, `macs`, `to_text()`, `to_dict()`,
        `plot(path)`. MACs are multiplications by kernels and within matrix products.

    Raises:
        TypeError: If `model` is no `keras.Model`.
        ValueError: If the model is not built, cannot be followed, or does not take such an input; if branches of
            different strides meet.

    Example:
        >>> inputs = keras.Input((224, 224, 3))
        >>> x = keras.layers.Conv2D(64, 7, strides=2, padding="same", name="conv")(inputs)
        >>> model = keras.Model(inputs, keras.layers.MaxPooling2D(3, 2, padding="same", name="pool")(x))
        >>> analysis = analyze(model)
        >>> analysis.receptive_field[0], analysis.macs  # 112² · 7² · 3 · 64
        (Field(size=11, stride=4, padding=2), 118013952)
    """
    inputs = _inputs(model, input_shape)
    try:
        calls, outputs = calls_of(model, inputs, lambda operation: rule(operation) is not None)
    except UntraceableError as error:
        raise ValueError(
            f"analyze: the model must be functional, or have a `call` written in Keras layers and `keras.ops`. Received: "
            f"{type(model).__name__}, whose `call` failed on a symbolic tensor ({error}). Analyze its parts, or build it "
            "with the functional API."
        ) from error
    follower = Follower(inputs)
    for call in calls:
        follower.follow(call)
    return _analysis(model, inputs, outputs, calls, follower)


def receptive_field(model: keras.Model, output: str | None = None) -> tuple[Field, ...]:
    """What one unit of a layer sees of the model's input.

    Output cell i sees the input cells from i · stride − padding to i · stride − padding + size − 1 (Araujo et al., 2019,
    *Computing Receptive Fields of Convolutional Neural Networks*, Distill 4(11), doi:10.23915/distill.00021). Behind an
    upsampling, where units take turns, the stride is a `fractions.Fraction`, the size the largest of all units, and the
    padding one that covers them all; `Row.box` has the exact cells of each. Stride 0: every unit sees the same.

    Args:
        model: As in `analyze`.
        output: Name of a layer, "backbone/conv1" or just "conv1". None: the output of the model.

    Returns:
        A `Field` for each spatial axis of the input. None for a size or padding that depends on the input size.

    Raises:
        ValueError: As `analyze`; if the model has no such layer.

    Example:
        >>> receptive_field(keras.Sequential([keras.Input((None, 8)), keras.layers.Conv1D(4, 3, dilation_rate=2)]))
        (Field(size=5, stride=1, padding=0),)
    """
    analysis = analyze(model)
    return analysis.receptive_field if output is None else analysis.row(output).field


def _inputs(model, input_shape):
    """Symbolic inputs of one example each."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"analyze: `model` must be a keras.Model. Received: {type(model).__name__}. Wrap layers in a model."
        )
    own = getattr(model, "inputs", None)
    if not model.built or (isinstance(model, keras.Sequential) and not own):
        raise ValueError(
            f"analyze: the model must be built. Received: {model.name!r}, which has no weights yet. Call it on an example, "
            "or model.build((None, height, width, channels))."
        )
    if own:
        given = [tuple(x.shape[1:]) for x in own]
    elif isinstance(shape := (model.get_build_config() or {}).get("input_shape"), (tuple, list)):
        given = [tuple(shape[1:])]
    else:
        given = []
    shapes = _shapes(input_shape, given)
    batches = [(x.shape[0] or 1, x.dtype) for x in own] if own else [(1, "float32")] * len(shapes)
    return [keras.KerasTensor((batch, *shape), dtype) for shape, (batch, dtype) in zip(shapes, batches, strict=True)]


def _shapes(input_shape, given):
    """The shapes asked for, or those of the model."""
    if input_shape is None:
        if not given:
            raise ValueError("analyze: the shape of the input is not known. Pass `input_shape`, such as (224, 224, 3).")
        return given
    several = len(input_shape) > 0 and isinstance(input_shape[0], (tuple, list))
    shapes = [tuple(shape) for shape in input_shape] if several else [tuple(input_shape)]
    fits = len(shapes) == len(given) and all(len(a) == len(b) for a, b in zip(shapes, given, strict=True))
    if given and not fits:
        wanted = given[0] if len(given) == 1 else given
        raise ValueError(
            f"analyze: `input_shape` must be of the rank of the model's own, without batch. Received: {input_shape}, for a "
            f"model of {wanted}. Pass a shape such as {_example(given)}."
        )
    return shapes


def _example(given):
    shapes = [tuple(224 if size is None else size for size in shape) for shape in given]
    return shapes[0] if len(shapes) == 1 else shapes


def _analysis(model, inputs, outputs, calls, follower):
    spatial, seen = follower.spatial, set()
    batch = inputs[0].shape[0]
    sizes = tuple(inputs[0].shape[source + 1] for source in spatial)
    producers = {id(x): place for place, call in enumerate(calls) for x in call.outputs}
    rows = tuple(
        _row(call, follower.views[id(call.outputs[0])], spatial, sizes, batch, seen, producers) for call in calls
    )
    rows += _rest(model, seen, spatial, sizes)
    return Analysis(
        model.name,
        tuple(inputs[0].shape[1:]),
        rows,
        _fields(follower.views[id(outputs[0])], spatial)[0],
        tuple(dict.fromkeys(follower.misaligned)),
        tuple(_notes(follower, spatial, rows)),
    )


def _row(call, view, spatial, sizes, batch, seen, producers):
    near, far = _fields(view, spatial)
    weights = [weight for weight in getattr(call.operation, "weights", ()) if id(weight) not in seen]
    seen.update(map(id, weights))
    cost = _cost(call)
    memory = [_bytes(x) for x in call.outputs]
    return Row(
        name=call.name,
        kind=type(call.operation).__name__,
        output_shape=tuple(call.outputs[0].shape[1:]),
        field=near,
        global_field=far,
        parameters=_count(weights),
        trainable_parameters=_count(weight for weight in weights if weight.trainable),
        cost=Cost(*(None if n is None else n // batch for n in vars(cost).values())),
        memory=None if None in memory else sum(memory) // batch,
        after=tuple(dict.fromkeys(producers[id(x)] for x in call.inputs if id(x) in producers)),
        reaches=tuple((view.local[s], view.whole[s], view.units(s)) for s in spatial),
        input_sizes=sizes,
    )


def _rest(model, seen, spatial, sizes):
    """Weights that belong to no call, such as those of a subclassed model itself."""
    weights = [weight for weight in model.weights if id(weight) not in seen]
    if not weights:
        return ()
    trained = _count(weight for weight in weights if weight.trainable)
    nothing = (NO_FIELD,) * len(spatial)
    reaches = ((None, None, None),) * len(spatial)
    return (Row("(other weights)", "", (), nothing, None, _count(weights), trained, Cost(), 0, (), reaches, sizes),)


def _fields(view, spatial):
    """(field, global field) of one unit: for each spatial axis."""
    near, far = [], []
    for source in spatial:
        local, whole = view.local[source], view.whole[source]
        if whole and whole.step is None:
            local = whole
        near.append((local or whole).field if local or whole else NO_FIELD)
        far.append(whole.field if whole and local and local is not whole else NO_FIELD)
    return tuple(near), tuple(far) if any(axis is not NO_FIELD for axis in far) else None


def _cost(call):
    if call.parts:
        total = Cost()
        for part in call.parts:
            total += _cost(part)
        return total
    known = rule(call.operation)
    return known[1](call) if known else Cost()


def _notes(follower, spatial, rows):
    yield from follower.notes(spatial)
    if len(follower.inputs) > 1:
        yield "Fields are those within the first input."
    if any(row.macs is None for row in rows):
        yield "Sizes are unknown: pass input_shape, such as (224, 224, 3), for MACs, memory and exact padding."


def _count(weights):
    return sum(math.prod(weight.shape) for weight in weights)


def _bytes(tensor):
    bits = re.search(r"\d+", tensor.dtype)  # "float32", "bfloat16", "bool"
    count = elements(tensor)
    return None if count is None else count * (int(bits.group()) // 8 if bits else 1)
