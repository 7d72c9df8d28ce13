"""Makes the rows of an analysis, from the calls and the fields of their outputs."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import keras

from keras_cnn.analysis.fields.axis_field import centre_distance
from keras_cnn.analysis.fields.costs import Cost, num_elements
from keras_cnn.analysis.fields.propagation import Propagation
from keras_cnn.analysis.fields.registry import find_rule
from keras_cnn.analysis.fields.tensor_field import TensorField
from keras_cnn.analysis.result import Row
from keras_cnn.analysis.tracing import Call
from keras_cnn.geometry import Field

NO_FIELD = Field(0, 0, 0)
UNKNOWN_COST = Cost(*(None,) * len(vars(Cost())))


def row_ids(calls: Sequence[Call], inputs: Mapping[str, keras.KerasTensor]) -> dict[int, str]:
    """For each tensor, by its `id`, the `Row.id` of the call that gives it, or the name of the input."""
    ids = {id(x): name for name, x in inputs.items()}
    total = Counter(call.name for call in calls)
    so_far = Counter()
    for call in calls:
        so_far[call.name] += 1
        row_id = call.name if total[call.name] == 1 else f"{call.name}#{so_far[call.name]}"
        ids.update((id(x), row_id) for x in call.outputs)
    return ids


def make_rows(
    model: keras.Model, calls: Iterable[Call], propagation: Propagation, ids: Mapping[int, str]
) -> tuple[Row, ...]:
    """A row for each call, and one for weights that belong to none, such as those of a subclassed model itself."""
    counted = set()
    rows = [_row(call, propagation, ids, counted) for call in calls]
    parameters, trainable = _count_parameters(model.weights, counted)
    if parameters:
        rows.append(_row_of_other_weights(propagation, parameters, trainable))
    return tuple(rows)


def fields_of_unit(
    tensor_field: TensorField, spatial_axes: Iterable[int]
) -> tuple[tuple[Field, ...], tuple[Field, ...] | None]:
    """(fields, global fields) of one unit, each with a `Field` per spatial axis."""
    local_result = []
    global_result = []
    for axis in spatial_axes:
        local = tensor_field.local_fields[axis]
        global_ = tensor_field.global_fields[axis]
        if global_ and global_.step is None:
            local = global_
        local_result.append((local or global_).field if local or global_ else NO_FIELD)
        global_result.append(global_.field if global_ and local and local is not global_ else NO_FIELD)
    sees_more = any(field is not NO_FIELD for field in global_result)
    return tuple(local_result), tuple(global_result) if sees_more else None


def _row(call, propagation, ids, counted):
    output = call.outputs[0]
    spatial_axes = propagation.spatial_axes
    tensor_field, output_axes = propagation.by_position(output)
    field, global_field = fields_of_unit(tensor_field, spatial_axes)
    batch = propagation.inputs[0].shape[0]
    parameters, trainable = _count_parameters(getattr(call.operation, "weights", ()), counted)
    memory = [_num_bytes(x) for x in call.outputs]
    return Row(
        id=ids[id(output)],
        name=call.name,
        kind=type(call.operation).__name__,
        inputs=tuple(dict.fromkeys(ids[id(x)] for x in call.inputs)),
        output_shape=tuple(output.shape[1:]),
        receptive_field=field,
        global_field=global_field,
        misaligned="; ".join(_misaligned(call, propagation)) or None,
        parameters=parameters,
        trainable_parameters=trainable,
        cost=Cost(*(None if n is None else n // batch for n in vars(_cost(call)).values())),
        memory=None if None in memory else sum(memory) // batch,
        axis_fields=tuple(
            (tensor_field.local_fields[axis], tensor_field.global_fields[axis], tensor_field.units(axis))
            for axis in spatial_axes
        ),
        output_axes=output_axes,
        input_sizes=_input_sizes(propagation),
    )


def _row_of_other_weights(propagation, parameters, trainable):
    rank = len(propagation.spatial_axes)
    name = "(other weights)"
    return Row(
        id=name,
        name=name,
        kind="",
        inputs=(),
        output_shape=(),
        receptive_field=(NO_FIELD,) * rank,
        global_field=None,
        misaligned=None,
        parameters=parameters,
        trainable_parameters=trainable,
        cost=Cost(),
        memory=0,
        axis_fields=((None, None, None),) * rank,
        output_axes=(),
        input_sizes=_input_sizes(propagation),
    )


def _input_sizes(propagation):
    return tuple(propagation.inputs[0].shape[axis + 1] for axis in propagation.spatial_axes)


def _misaligned(call, propagation):
    """A sentence for each place in the call where branches meet whose centres differ."""
    for part in call.parts:
        yield from _misaligned(part, propagation)
    if call.parts or call.name not in propagation.misaligned:
        return
    fields = [propagation.fields[id(x)] for x in call.inputs]
    along = [
        [field.local_fields[axis] for field in fields if field.local_fields[axis]] for axis in propagation.spatial_axes
    ]
    if distance := max(map(centre_distance, along), default=0):
        cells = "cell" if distance == 1 else "cells"
        yield f"{call.name} joins branches whose centres lie up to {distance:g} {cells} of the input apart"


def _cost(call):
    if call.parts:
        return sum(map(_cost, call.parts), Cost())
    rule = find_rule(call.operation)
    return rule.cost(call) if rule else UNKNOWN_COST


def _count_parameters(weights, counted):
    """(all, trainable) of the weights that are not `counted` yet; afterwards they are."""
    new = [weight for weight in weights if id(weight) not in counted]
    counted.update(map(id, new))
    sizes = [(math.prod(weight.shape), weight.trainable) for weight in new]
    return sum(size for size, _ in sizes), sum(size for size, trainable in sizes if trainable)


def _num_bytes(tensor):
    bits = re.search(r"\d+", tensor.dtype)  # "float32", "bfloat16", "bool"
    count = num_elements(tensor)
    return None if count is None else count * (int(bits.group()) // 8 if bits else 1)
