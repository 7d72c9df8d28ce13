"""Learning rates that fall with depth: the early layers of a pretrained network need to change less than the late ones.

Howard & Ruder, 2018, arXiv:1801.06146, section 3.2 (discriminative fine-tuning); one factor per layer as in
Clark et al., 2020, ELECTRA, arXiv:2003.10555, appendix.
"""

from __future__ import annotations

import numbers
from collections import defaultdict
from typing import Any

import keras
from keras import tree

from keras_cnn import arguments
from keras_cnn.keras_internals import NoSeparateWeightDecay, decays, producer, producing_call, variable_index
from keras_cnn.surgery.graph import require_graph
from keras_cnn.surgery.nesting import flatten_nested

# The first two hold other optimizers; the third has separate rates and decays for kernels and for the other variables.
REFUSED = (keras.optimizers.LossScaleOptimizer, keras.optimizers.MultiOptimizer, keras.optimizers.Muon)


def layerwise_optimizer(
    optimizer: keras.optimizers.Optimizer, model: keras.Model, decay: float
) -> keras.optimizers.Optimizer:
    """The same optimizer with one learning rate per layer of `model`: rate · decay^(layers with a kernel after it).

    "After it" counts along the longest path to the outputs: the head learns at the full rate, the convolution before it at
    `decay` times that. A normalisation has the rate of the convolution that it follows. Schedules, weight decay, clipping,
    gradient accumulation and averages of weights stay as they are: it is an optimizer of the same class, and is saved
    and loaded with the model.

    Args:
        optimizer: Any Keras optimizer that has not been used yet.
        model: A functional or Sequential model with its final `trainable` values; nested models count too.
        decay: More than 0, at most 1. With 50 layers 0.95 leaves 8 % of the rate to the first one.

    Raises:
        ValueError: If `decay` is out of range, the optimizer has been used, or Keras keeps no graph of the model.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.Dense(1)])
        >>> optimizer = layerwise_optimizer(keras.optimizers.AdamW(1e-3, weight_decay=0.02), model, decay=0.8)
        >>> isinstance(optimizer, keras.optimizers.AdamW), optimizer.factors
        (True, (('kernel', 0.8), ('bias', 0.8), ('kernel', 1.0), ('bias', 1.0)))
    """
    owner = "layerwise_optimizer"
    if isinstance(decay, bool) or not isinstance(decay, numbers.Real) or not 0 < decay <= 1:
        raise ValueError(arguments.message(owner, "decay", "more than 0 and at most 1", decay))
    if not isinstance(optimizer, keras.optimizers.Optimizer) or isinstance(optimizer, (*REFUSED, _Layerwise)):
        remedy = "Put an optimizer that holds another one, such as LossScaleOptimizer, around the result."
        raise ValueError(arguments.message(owner, "optimizer", "an optimizer with one rate for all", optimizer, remedy))
    if optimizer.built:
        raise ValueError(f"{owner}: `optimizer` must be a new one, since the state of a used one would be lost.")
    depths = depth_from_output(model)
    factors = [(variable.name, decay ** depths[id(variable)]) for variable in model.trainable_variables]
    return _layerwise_class(type(optimizer)).from_config({**optimizer.get_config(), "factors": factors})


def depth_from_output(model: keras.Model) -> dict[int, int]:
    """For the `id` of each weight, the number of layers with a kernel after its layer on the longest path to the outputs."""
    _, calls = flatten_nested(require_graph("layerwise_optimizer", model))
    tensor_depths: defaultdict[int, int] = defaultdict(int)
    weight_depths: defaultdict[int, int] = defaultdict(int)
    for _, operation, outputs in reversed(calls):  # from the outputs to the inputs
        outputs = tree.flatten(outputs)
        if producer(outputs[0]) is not operation:
            continue  # a nested model, whose layers are in the list too
        weights, depth = getattr(operation, "weights", ()), max(tensor_depths[id(x)] for x in outputs)
        for weight in weights:
            weight_depths[id(weight)] = max(weight_depths[id(weight)], depth)
        depth += any(len(weight.shape) > 1 for weight in weights)
        for x in producing_call(outputs[0]).input_tensors:
            tensor_depths[id(x)] = max(tensor_depths[id(x)], depth)
    return dict(weight_depths)


class _Layerwise(NoSeparateWeightDecay):
    """A base class, before that of an optimizer, that scales the rate of each variable by a factor.

    Args:
        factors: `(name, factor)` per trainable variable in the order of the model. Not by path: the path of a variable in a
            nested layer changes when the model is loaded.
    """

    weight_decay: float | None
    assign_sub: Any

    def __init__(self, *args: Any, factors: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.factors = tuple((name, float(factor)) for name, factor in factors)

    def build(self, variables: list[keras.Variable]) -> None:
        """Make the slots.

        Raises:
            ValueError: If the variables are not those that the factors were made for.
        """
        if [variable.name for variable in variables] != [name for name, _ in self.factors]:
            raise ValueError(
                f"{type(self).__name__}: the variables must be those that were trainable when `layerwise_optimizer` was "
                f"called. Received: {len(variables)} of them, not the same {len(self.factors)}. Freeze and unfreeze first."
            )
        super().build(variables)  # type: ignore[misc]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable at its own rate."""
        rate = learning_rate * self.factors[variable_index(self, variable)][1]
        # Decoupled decay is rate · weight_decay · variable: it falls with depth like the rate.
        if self.weight_decay is not None and decays(self, variable):
            self.assign_sub(variable, variable * keras.ops.cast(self.weight_decay, variable.dtype) * rate)
        super().update_step(gradient, variable, rate)  # type: ignore[misc]

    def get_config(self) -> dict[str, Any]:
        """Arguments, as plain values."""
        config = super().get_config()  # type: ignore[misc]
        return {**config, "factors": [list(pair) for pair in self.factors]}


def _layerwise_class(optimizer_class):
    """`Layerwise<Name>`, registered in Keras under that name so that saved models load."""
    name = f"Layerwise{optimizer_class.__name__}"
    known = keras.saving.get_registered_object(f"keras_cnn>{name}")
    if known is None or known.__bases__ != (_Layerwise, optimizer_class):
        known = keras.saving.register_keras_serializable("keras_cnn")(type(name, (_Layerwise, optimizer_class), {}))
    return known


def _single_optimizers():
    found = [member for member in vars(keras.optimizers).values() if isinstance(member, type)]
    found = [member for member in found if issubclass(member, keras.optimizers.Optimizer)]
    return [member for member in found if member not in (keras.optimizers.Optimizer, *REFUSED)]


for _optimizer_class in _single_optimizers():  # at import, since a saved model may be loaded before any has been made
    _layerwise_class(_optimizer_class)
