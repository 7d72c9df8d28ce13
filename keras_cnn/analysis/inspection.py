"""`kc.analyze` and `kc.analysis.receptive_field`: a model's calls, followed one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import keras

from keras_cnn.analysis.fields.propagation import Propagation
from keras_cnn.analysis.fields.registry import find_rule
from keras_cnn.analysis.formatting import format_shape
from keras_cnn.analysis.model_inputs import built_shapes, symbolic_inputs
from keras_cnn.analysis.result import Analysis
from keras_cnn.analysis.rows import fields_of_unit, make_rows, row_ids
from keras_cnn.analysis.tracing import UntraceableError, trace_calls
from keras_cnn.backbones import Backbone
from keras_cnn.geometry import Field

Shape = Sequence[int | None]


def analyze(model: keras.Model | Backbone, input_shape: Shape | Sequence[Shape] | None = None) -> Analysis:
    """Receptive field, parameters and cost of every layer of a model, without running it.

    Each call of a layer is a row, also within nested models; a layer that is called twice has two rows. Layers without a rule
    (attention, layers from elsewhere) are followed through their `call` if that is written in Keras layers and `keras.ops`; a
    layer that cannot be followed has an unknown field and cost, and `notes` names it. Fields are those at inference, within
    the first input; `other_inputs` has those within each other one.

    Args:
        model: Any built `keras.Model`: functional, Sequential, nested, or a subclass whose `call` can be followed; or a
            `keras_cnn.Backbone`.
        input_shape: Without batch, such as (320, 320, 3); for several inputs a list of shapes. None: the model's own. A
            size of None leaves MACs and memory unknown, and the padding of "same" after a stride.

    Returns:
        `Analysis`, with `rows`, `receptive_field`, `misaligned`, `parameters`, `macs`, `to_text()`, `to_dict()`,
        `plot(path)`. MACs are multiplications by kernels and within matrix products.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If the model is not built, cannot be followed, or does not take such an input; if `input_shape` has
            another rank; if branches of different strides meet.

    Example:
        >>> inputs = keras.Input((224, 224, 3))
        >>> x = keras.layers.Conv2D(64, 7, strides=2, padding="same", name="conv")(inputs)
        >>> model = keras.Model(inputs, keras.layers.MaxPooling2D(3, 2, padding="same", name="pool")(x))
        >>> analysis = analyze(model)
        >>> analysis.receptive_field[0], analysis.macs  # 112² · 7² · 3 · 64
        (Field(size=11, stride=4, padding=2), 118013952)
    """
    backbone = isinstance(model, Backbone)
    model = model.model if backbone else model
    inputs = symbolic_inputs(model, input_shape)
    calls, outputs = _trace(model, inputs)
    first, *others = (_analysis(model, backbone, inputs, name, calls, outputs) for name in inputs)
    return replace(first, other_inputs={other.input: other for other in others})


def receptive_field(model: keras.Model | Backbone, output: str | None = None) -> tuple[Field, ...]:
    """What one unit of a layer sees of the model's input.

    Output cell i sees the input cells from i · stride − padding to i · stride − padding + size − 1 (Araujo et al., 2019,
    *Computing Receptive Fields of Convolutional Neural Networks*, Distill 4(11), doi:10.23915/distill.00021). After an
    upsampling, where units alternate in what they see, the stride is a `fractions.Fraction`, the size the largest of all
    units, and the padding one that covers them all; `Row.box` has the exact cells of each. Stride 0: every unit sees the same.

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
    return analysis.receptive_field if output is None else analysis.row(output).receptive_field


def _trace(model, inputs):
    try:
        return trace_calls(model, list(inputs.values()), lambda operation: find_rule(operation) is not None)
    except UntraceableError as error:
        raise ValueError(
            f"analyze: the model must be functional, or have a `call` written in Keras layers and `keras.ops`. Received: "
            f"{type(model).__name__}, whose `call` failed on a symbolic tensor ({error}). Analyze its parts, or build it "
            "with the functional API."
        ) from error
    except ValueError as error:
        built = built_shapes(model)
        if built == [tuple(x.shape[1:]) for x in inputs.values()]:
            raise
        shapes = " and ".join(format_shape(x.shape[1:]) for x in inputs.values())
        # After the colon comes the message of Keras, which is about other things than what the caller has passed.
        layer, end, _ = str(error).removeprefix("analyze: ").partition("): ")
        built_for = f" It was built for {' and '.join(map(format_shape, built))}." if built else ""
        raise ValueError(
            f"analyze: the model does not take an input of {shapes}: {layer}{end[:1]}.{built_for}"
        ) from error


def _analysis(model, backbone, inputs, name, calls, outputs) -> Analysis:
    """The analysis with the fields within input `name`."""
    propagation = Propagation([inputs[name], *(x for other, x in inputs.items() if other != name)])
    for call in calls:
        propagation.step(call)
    ids = row_ids(calls, inputs)
    shapes = {input_name: tuple(x.shape[1:]) for input_name, x in inputs.items()}
    rows = make_rows(model, calls, propagation, ids)
    output_field, _ = propagation.by_position(outputs[0])
    receptive_field, _ = fields_of_unit(output_field, propagation.spatial_axes)
    return Analysis(
        name=model.name,
        backbone=backbone,
        inputs=shapes,
        input=name,
        rows=rows,
        outputs=tuple((ids[id(x)], tuple(x.shape[1:])) for x in outputs),
        receptive_field=receptive_field,
        notes=(*propagation.notes(), *_notes_on_inputs(shapes, name), *_notes_on_sizes(shapes, name, rows)),
    )


def _notes_on_inputs(shapes, name):
    if len(shapes) > 1:
        first, *others = map(repr, shapes)
        where = f"; `other_inputs` has those within {', '.join(others)}" if repr(name) == first else ""
        yield f"Fields are those within input {name!r}{where}."


def _notes_on_sizes(shapes, name, rows):
    unknown = {
        "MACs": any(row.macs is None for row in rows),
        "memory": any(row.memory is None for row in rows),
        "padding": any(axis.stride and axis.padding is None for row in rows for axis in row.receptive_field),
    }
    if any(unknown.values()) and any(None in shape for shape in shapes.values()):
        example = tuple(size or 224 for size in shapes[name])
        yield (
            f"Not known without the size of the input: {', '.join(what for what, is_so in unknown.items() if is_so)}; pass "
            f"input_shape, such as {example}, or on the command line --input {'x'.join(map(str, example[:-1]))}."
        )
