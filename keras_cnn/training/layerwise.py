"""Learning rates that fall with depth: the early layers of a pretrained network need to move less than the late ones.

Howard & Ruder, 2018, arXiv:1801.06146, section 3.2 (discriminative fine-tuning); per layer by one factor as in
Clark et al., 2020, ELECTRA, arXiv:2003.10555, appendix.
"""

from __future__ import annotations

import numbers
from collections import defaultdict

import keras
from keras import tree

from keras_cnn import arguments
from keras_cnn.surgery.graph import require_graph
from keras_cnn.surgery.nesting import laid_open

# The first two hold other optimizers; the third has rates and decays of its own for kernels and for the rest.
REFUSED = (keras.optimizers.LossScaleOptimizer, keras.optimizers.MultiOptimizer, keras.optimizers.Muon)


def layerwise_optimizer(optimizer, model: keras.Model, decay: float):
    """The same optimizer with a learning rate for each layer of `model`: rate · decay^(layers with a kernel behind it).

    "Behind it" counts along the longest path to the outputs: the head learns at the full rate, the convolution before it at
    `decay` times that. A normalisation has the rate of the convolution that it follows. Schedules, weight decay, clipping,
    gradient accumulation and averages of weights stay what they are: it is an optimizer of the same class, and is saved
    and loaded with the model.

    Args:
        optimizer: Any Keras optimizer that has not been used yet.
        model: A functional or Sequential model, frozen as it will be; nested models are looked into.
        decay: More than 0, at most 1. With 50 layers 0.95 leaves 8 % of the rate to the first one.

    Raises:
        ValueError: If `decay` is out of range, the optimizer has been used, or the model's graph is not known.

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
        remedy = "An optimizer around others, such as LossScaleOptimizer, goes around the result."
        raise ValueError(arguments.message(owner, "optimizer", "an optimizer with one rate for all", optimizer, remedy))
    if optimizer.built:
        raise ValueError(f"{owner}: `optimizer` must be a new one, since what a used one has gathered would be lost.")
    behind = layers_behind(model)
    factors = [(variable.name, decay ** behind[id(variable)]) for variable in model.trainable_variables]
    return _layerwise(type(optimizer)).from_config({**optimizer.get_config(), "factors": factors})


def layers_behind(model: keras.Model) -> dict[int, int]:
    """For the `id` of each weight, how many layers with a kernel stand behind its layer on the longest path to the outputs."""
    _, calls = laid_open(require_graph("layerwise_optimizer", model))
    behind, result = defaultdict(int), defaultdict(int)
    for _, operation, outputs in reversed(calls):  # from the outputs to the inputs
        history = tree.flatten(outputs)[0]._keras_history
        if history.operation is not operation:
            continue  # a nested model, whose layers are in the list too
        weights, own = getattr(operation, "weights", ()), max(behind[id(x)] for x in tree.flatten(outputs))
        for weight in weights:
            result[id(weight)] = max(result[id(weight)], own)
        own += any(len(weight.shape) > 1 for weight in weights)
        for x in operation._inbound_nodes[history.node_index].input_tensors:
            behind[id(x)] = max(behind[id(x)], own)
    return dict(result)


class _Layerwise:
    """What an optimizer class gets to scale the rate of each variable by a factor.

    Args:
        factors: `(name, factor)` for each trainable variable in the order of the model. Not by path: that of a nested
            layer is another one after loading.
    """

    def __init__(self, *args, factors, **kwargs):
        super().__init__(*args, **kwargs)
        self.factors = tuple((name, float(factor)) for name, factor in factors)

    def build(self, variables):
        """Make the slots.

        Raises:
            ValueError: If the variables are not those that the factors were made for.
        """
        if [variable.name for variable in variables] != [name for name, _ in self.factors]:
            raise ValueError(
                f"{type(self).__name__}: the variables must be those that were trainable when `layerwise_optimizer` was "
                f"called. Received: {len(variables)} of them, not the same {len(self.factors)}. Freeze and unfreeze first."
            )
        super().build(variables)

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable at its own rate."""
        rate = learning_rate * self.factors[self._get_variable_index(variable)][1]
        # Decoupled decay is rate · weight_decay · variable: it falls with depth like the rate.
        if self.weight_decay is not None and self._use_weight_decay(variable):
            self.assign_sub(variable, variable * keras.ops.cast(self.weight_decay, variable.dtype) * rate)
        super().update_step(gradient, variable, rate)

    def _apply_weight_decay(self, variables):
        pass  # it is part of the update

    def get_config(self):
        """Arguments, as plain values."""
        return {**super().get_config(), "factors": [list(pair) for pair in self.factors]}


def _layerwise(optimizer_class):
    """`Layerwise<Name>`, known to Keras by that name so that saved models load."""
    name = f"Layerwise{optimizer_class.__name__}"
    known = keras.saving.get_registered_object(f"keras_cnn>{name}")
    if known is None or known.__mro__[2] is not optimizer_class:
        known = keras.saving.register_keras_serializable("keras_cnn")(type(name, (_Layerwise, optimizer_class), {}))
    return known


def _single_optimizers():
    found = [member for member in vars(keras.optimizers).values() if isinstance(member, type)]
    found = [member for member in found if issubclass(member, keras.optimizers.Optimizer)]
    return [member for member in found if member not in (keras.optimizers.Optimizer, *REFUSED)]


for _optimizer_class in _single_optimizers():  # now, since a saved model may be loaded before any has been made
    _layerwise(_optimizer_class)
