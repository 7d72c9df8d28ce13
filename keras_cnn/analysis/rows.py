"""From calls, and what their outputs see, to the rows of an analysis."""

from __future__ import annotations

import math
import re
from collections import Counter

from keras_cnn.analysis.fields.axis_field import centres_apart
from keras_cnn.analysis.fields.costs import Cost, elements
from keras_cnn.analysis.fields.registry import rule
from keras_cnn.analysis.result import Row
from keras_cnn.geometry import Field

NO_FIELD = Field(0, 0, 0)
NOT_KNOWN = Cost(*(None,) * len(vars(Cost())))


def ids_of(calls, inputs) -> dict:
    """For each tensor, by its `id`, the `Row.id` of the call that gives it, or the name of the input."""
    ids = {id(x): name for name, x in inputs.items()}
    number, so_far = Counter(call.name for call in calls), Counter()
    for call in calls:
        so_far[call.name] += 1
        name = call.name if number[call.name] == 1 else f"{call.name}#{so_far[call.name]}"
        ids.update((id(x), name) for x in call.outputs)
    return ids


def rows_of(model, calls, follower, ids) -> tuple[Row, ...]:
    """A row for each call, and one for weights that belong to none, such as those of a subclassed model itself."""
    spatial, counted = follower.spatial, set()
    sizes = tuple(follower.inputs[0].shape[source + 1] for source in spatial)
    rows = [_row(call, follower, spatial, sizes, ids, counted) for call in calls]
    parameters, trainable = _parameters(model.weights, counted)
    if parameters:
        name = "(other weights)"
        rows.append(
            Row(
                id=name,
                name=name,
                kind="",
                inputs=(),
                output_shape=(),
                field=(NO_FIELD,) * len(spatial),
                global_field=None,
                misaligned=None,
                parameters=parameters,
                trainable_parameters=trainable,
                cost=Cost(),
                memory=0,
                reaches=((None, None, None),) * len(spatial),
                places=(),
                input_sizes=sizes,
            )
        )
    return tuple(rows)


def fields_of(view, spatial):
    """(field, global field) of one unit: for each spatial axis."""
    near, far = [], []
    for source in spatial:
        local, whole = view.local[source], view.whole[source]
        if whole and whole.step is None:
            local = whole
        near.append((local or whole).field if local or whole else NO_FIELD)
        far.append(whole.field if whole and local and local is not whole else NO_FIELD)
    return tuple(near), tuple(far) if any(axis is not NO_FIELD for axis in far) else None


def _row(call, follower, spatial, sizes, ids, counted):
    (view, places), batch = follower.placed(call.outputs[0]), follower.inputs[0].shape[0]
    near, far = fields_of(view, spatial)
    parameters, trainable = _parameters(getattr(call.operation, "weights", ()), counted)
    memory = [_bytes(x) for x in call.outputs]
    return Row(
        id=ids[id(call.outputs[0])],
        name=call.name,
        kind=type(call.operation).__name__,
        inputs=tuple(dict.fromkeys(ids[id(x)] for x in call.inputs)),
        output_shape=tuple(call.outputs[0].shape[1:]),
        field=near,
        global_field=far,
        misaligned="; ".join(_misaligned(call, follower, spatial)) or None,
        parameters=parameters,
        trainable_parameters=trainable,
        cost=Cost(*(None if n is None else n // batch for n in vars(_cost(call)).values())),
        memory=None if None in memory else sum(memory) // batch,
        reaches=tuple((view.local[s], view.whole[s], view.units(s)) for s in spatial),
        places=places,
        input_sizes=sizes,
    )


def _misaligned(call, follower, spatial):
    """A sentence for each place in the call where branches meet whose centres differ."""
    for part in call.parts:
        yield from _misaligned(part, follower, spatial)
    if call.parts or call.name not in follower.misaligned:
        return
    views = [follower.views[id(x)] for x in call.inputs]
    along = [[view.local[source] for view in views if view.local[source]] for source in spatial]
    if apart := max(map(centres_apart, along), default=0):
        cells = "cell" if apart == 1 else "cells"
        yield f"{call.name} joins branches whose centres lie up to {apart:g} {cells} of the input apart"


def _cost(call):
    if call.parts:
        return sum(map(_cost, call.parts), Cost())
    known = rule(call.operation)
    return known[1](call) if known else NOT_KNOWN


def _parameters(weights, counted):
    """(all, trainable) of the weights that are not `counted` yet; from then on they are."""
    new = [weight for weight in weights if id(weight) not in counted]
    counted.update(map(id, new))
    sizes = [(math.prod(weight.shape), weight.trainable) for weight in new]
    return sum(size for size, _ in sizes), sum(size for size, trainable in sizes if trainable)


def _bytes(tensor):
    bits = re.search(r"\d+", tensor.dtype)  # "float32", "bfloat16", "bool"
    count = elements(tensor)
    return None if count is None else count * (int(bits.group()) // 8 if bits else 1)
