"""The arguments that a function of a SavedModel takes: the variants that were traced before it was saved."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
from keras import tree

from keras_cnn.arguments import message


class Variant(NamedTuple):
    """One trace: the TensorSpecs of the first argument, and the other arguments by name, values or TensorSpecs."""

    inputs: Any
    others: dict[str, Any]


def of_object(function: Any) -> list[Variant]:
    """The variants of a restored function of a reusable SavedModel."""
    variants = []
    for concrete in function.concrete_functions:
        positional, keywords = concrete.structured_input_signature
        others = zip(list(concrete.function_type.parameters)[1:], positional[1:], strict=False)
        variants.append(Variant(positional[0], {**dict(others), **keywords}))
    return variants


def of_signature(function: Any) -> list[Variant]:
    """The one variant of a signature, whose inputs have names."""
    inputs = dict(sorted(function.structured_input_signature[1].items()))
    return [Variant(inputs if len(inputs) > 1 else next(iter(inputs.values())), {})]


def accepted(variants: list[Variant], inputs: Any) -> Any:
    """`inputs` cast to the dtypes of the variant that they fit best; ValueError if they fit none."""
    fitting = [variant.inputs for variant in variants if _fits(inputs, variant.inputs)]
    if not fitting:
        options = " or ".join(dict.fromkeys(_describe(variant.inputs) for variant in variants))
        raise ValueError(
            f"HubLayer: `inputs` must be {options}, which the module was saved with. Received: "
            f"inputs={_describe(inputs)}."
        )
    nearest = min(fitting, key=lambda specs: sum(x.dtype != spec.dtype for x, spec in _pairs(inputs, specs)))
    return tree.map_structure(lambda x, spec: tf.cast(x, spec.dtype), inputs, nearest)


def check_arguments(variants: list[Variant], arguments: dict[str, Any]) -> None:
    """ValueError if no variant takes these arguments in addition to its inputs."""
    known = {name for variant in variants for name in variant.others} - {"training"}
    for name, value in arguments.items():
        if name not in known:
            expected = f"a dict with names from {sorted(known)}" if known else "None, since the module takes none"
            raise ValueError(message("HubLayer", "arguments", expected, arguments))
        options = [variant.others[name] for variant in variants if name in variant.others]
        if value not in options and not any(isinstance(option, tf.TypeSpec) for option in options):
            expected = " or ".join(sorted({repr(option) for option in options})) + ", which the module was saved with"
            raise ValueError(message("HubLayer", f"arguments[{name!r}]", expected, value))


def mode(variants: list[Variant], training: bool) -> dict[str, Any]:
    """`training` as an argument, if the function takes it. If it was saved in one mode only, that mode."""
    modes = [variant.others["training"] for variant in variants if "training" in variant.others]
    if not modes:
        return {}
    either = training in modes or any(isinstance(option, tf.TypeSpec) for option in modes)
    return {"training": training if either else modes[0]}


def _fits(inputs: Any, specs: Any) -> bool:
    try:
        tree.assert_same_structure(inputs, specs)
    except ValueError:
        return False
    return all(spec.shape.is_compatible_with(x.shape) and _castable(x, spec) for x, spec in _pairs(inputs, specs))


def _castable(x: Any, spec: Any) -> bool:
    to_float = spec.dtype.is_floating and (x.dtype.is_floating or x.dtype.is_integer)
    return x.dtype == spec.dtype or to_float or (spec.dtype.is_integer and x.dtype.is_integer)


def _pairs(inputs: Any, specs: Any) -> list[tuple[Any, Any]]:
    return list(zip(tree.flatten(inputs), tree.flatten(specs), strict=True))


def _describe(tensors: Any) -> str:
    return str(tree.map_structure(lambda x: f"{x.dtype.name} {tuple(x.shape)}", tensors)).replace("'", "")
