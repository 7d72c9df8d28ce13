"""What an analysis starts from: a built model, and the shapes of its inputs."""

from __future__ import annotations

import numbers
from typing import Any

import keras

from keras_cnn import arguments
from keras_cnn.keras_internals import producer

OWNER = "analyze"


def symbolic_inputs(model: Any, input_shape: Any) -> dict[str, keras.KerasTensor]:
    """For each input of the model, by its name, a tensor of one example without values.

    Args:
        model: Should be a built `keras.Model`.
        input_shape: Without batch; for several inputs a list of shapes; None: the model's own.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If it is not built, or does not take inputs of that number, rank or kind.
    """
    _check_built(model)
    own = getattr(model, "inputs", None)
    shapes = _requested_shapes(input_shape, built_shapes(model))
    if own:
        return {
            producer(x).name: keras.KerasTensor((x.shape[0] or 1, *shape), x.dtype)
            for x, shape in zip(own, shapes, strict=True)
        }
    names = ["input"] if len(shapes) == 1 else [f"input_{number}" for number in range(1, len(shapes) + 1)]
    return {name: keras.KerasTensor((1, *shape), "float32") for name, shape in zip(names, shapes, strict=True)}


def built_shapes(model: keras.Model) -> list[tuple[int | None, ...]]:
    """The shapes of inputs that the model was built for, without batch; empty if the model does not know them."""
    if getattr(model, "inputs", None):
        return [tuple(x.shape[1:]) for x in model.inputs]
    shape = (model.get_build_config() or {}).get("input_shape")
    return [tuple(shape[1:])] if isinstance(shape, (tuple, list)) else []


def _check_built(model):
    if not isinstance(model, keras.Model):
        received = getattr(model, "__name__", type(model).__name__)
        raise TypeError(
            f"{OWNER}: `model` must be a keras.Model. Received: {received}. Wrap a layer in a model; for the name of a "
            "network, pass kc.load_backbone(name)."
        )
    if not model.built or (isinstance(model, keras.Sequential) and not model.inputs):
        raise ValueError(
            f"{OWNER}: the model must be built. Received: {model.name!r}, which has no weights yet. Call it on an example, "
            "or model.build((None, height, width, channels))."
        )


def _requested_shapes(input_shape, built):
    """The shapes that the caller asks for, or those of the model."""
    if input_shape is None:
        if not built:
            raise ValueError(
                f"{OWNER}: the shape of the input is not known. Pass `input_shape`, such as (224, 224, 3)."
            )
        return built
    several = isinstance(input_shape, (tuple, list)) and bool(input_shape) and not any(map(_is_size, input_shape))
    shapes = list(input_shape) if several else [input_shape]
    remedy = f"Pass {_example(built)}, or other sizes in their places." if built else "Pass one such as (224, 224, 3)."
    if not all(map(_is_shape, shapes)):
        expected = "a shape without batch, of integers of at least 1, or None where any size will do"
        raise ValueError(arguments.message(OWNER, "input_shape", expected, input_shape, remedy))
    if built and list(map(len, shapes)) != list(map(len, built)):
        axes = " and ".join(str(len(shape)) for shape in built)
        expected = f"a shape of {axes} axes" if len(built) == 1 else f"a list of {len(built)} shapes, of {axes} axes"
        raise ValueError(arguments.message(OWNER, "input_shape", f"{expected}, without batch", input_shape, remedy))
    return [tuple(None if size is None else int(size) for size in shape) for shape in shapes]


def _is_size(size):
    return size is None or (isinstance(size, numbers.Integral) and not isinstance(size, bool) and size > 0)


def _is_shape(shape):
    return isinstance(shape, (tuple, list)) and bool(shape) and all(map(_is_size, shape))


def _example(built):
    shapes = [tuple(224 if size is None else size for size in shape) for shape in built]
    return shapes[0] if len(shapes) == 1 else shapes
