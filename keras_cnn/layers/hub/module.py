"""A SavedModel as TensorFlow loads it: its variables, and the call that trains them or leaves them unchanged."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import tensorflow as tf
from keras import KerasTensor, tree
from tensorflow.core.protobuf import saved_model_pb2

from keras_cnn.arguments import message
from keras_cnn.layers.hub import variants


class Module:
    """A loaded SavedModel and the one function in it that is called.

    Args:
        directory: Where its `saved_model.pb` is.
        signature: The signature to call. None: the object itself or, if that cannot be called, its usual signature.
        values: Whether `directory` holds the values of the variables. Otherwise they are NaN until they are set.

    Attributes:
        reusable: Whether it can be trained. The object itself can, a signature cannot.
        variables: The tf.Variables of the function by name, in the order in which the module lists or uses them.
        trained: Names of the variables that training changes by gradients.
        regularization_losses: Functions without arguments.
        compiles: Whether XLA may compile it. XLA knows neither text nor tables.

    Raises:
        ValueError: If there is no such signature, or if the module has state that would be lost.

    Reference: https://www.tensorflow.org/hub/reusable_saved_models and https://www.tensorflow.org/hub/tf1_hub_module.
    """

    def __init__(self, directory: Path, signature: str | None, values: bool) -> None:
        if values:
            _check_state(directory)
        root = _load(directory, values)
        self._root = root  # owns what the function uses
        self.reusable = signature is None and callable(root)
        self._function = root.__call__ if self.reusable else _signature(root, signature)
        self.variants = variants.of_object(self._function) if self.reusable else variants.of_signature(self._function)
        self.regularization_losses = list(getattr(root, "regularization_losses", ())) if self.reusable else []
        self.variables, self.trained = self._name_variables()
        nodes = tf.train.TrackableView(root).descendants()
        self._tables = [node for node in nodes if isinstance(node, tf.saved_model.experimental.TrackableResource)]
        texts = any(spec.dtype == tf.string for spec in tree.flatten(self.variants[0].inputs))
        self.compiles = not self._tables and not texts
        if not values:
            for variable in self.variables.values():
                variable.assign(_nan_like(variable))

    def _name_variables(self) -> tuple[dict[str, tf.Variable], set[str]]:
        if self.reusable:
            functions = [self._function, *self.regularization_losses]
            used = [v for function in functions for concrete in function.concrete_functions for v in concrete.variables]
            found = [*getattr(self._root, "variables", ()), *used]
            trained = getattr(self._root, "trainable_variables", [variable for variable in used if variable.trainable])
        else:
            found, trained = self._function.variables, []
        names = {}
        for variable in {id(variable): variable for variable in found}.values():
            names[_unused_name(variable.name.split(":")[0].replace("/", "."), names)] = variable
        trained = {id(variable) for variable in trained}
        return names, {name for name, variable in names.items() if id(variable) in trained}

    def tracked(self, weights: dict[str, Any]) -> tf.Module:
        """What TensorFlow's checkpoints and exports find: `weights` by name, and lookup tables."""
        node = tf.Module()
        node.weights = dict(weights)
        node.tables = self._tables
        return node

    def __call__(self, inputs: Any, training: bool, arguments: dict[str, Any], held: list[str]) -> Any:
        """What the function returns for `inputs`, which are cast to the dtypes that it takes.

        While `training`, the variables in `held` keep their values, and its other state is averaged over the replicas.
        """
        inputs = variants.accepted(self.variants, inputs)
        if not self.reusable:
            name, *more = self._function.structured_input_signature[1]
            return self._function(**(inputs if more else {name: inputs}))
        replica = tf.distribute.get_replica_context() if training else None  # also None if only traced for its shapes
        before = {name: _read(self.variables[name]) for name in held} if replica else {}
        outputs = self._function(inputs, **arguments, **variants.mode(self.variants, training))
        if replica:
            self._settle(replica, before)
        return outputs

    def output_spec(self, function: Callable, inputs: Any) -> Any:
        """What `function` returns for KerasTensors, as KerasTensors: TensorFlow infers shapes through the module."""
        specs = tree.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), inputs)
        outputs = tf.function(function, autograph=False).get_concrete_function(specs).structured_outputs
        return tree.map_structure(lambda output: KerasTensor(tuple(output.shape), output.dtype.name), outputs)

    def _settle(self, replica: Any, before: dict[str, tf.Tensor]) -> None:
        """Give the held variables their values back, and average the other state over the replicas."""
        for name, value in before.items():
            _write(self.variables[name], value)
        state = [v for name, v in self.variables.items() if name not in self.trained and v.dtype.is_floating]
        if state and replica.num_replicas_in_sync > 1:
            means = replica.all_reduce(tf.distribute.ReduceOp.MEAN, [_read(variable) for variable in state])
            for variable, value in zip(state, means, strict=True):
                _write(variable, value)


def _load(directory: Path, values: bool) -> Any:
    graphs = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes()).meta_graphs
    tags = [list(graph.meta_info_def.tags) for graph in graphs]
    # TF1 Hub stores the graph for training too. The one for inference has no tags.
    tags_of_graph = next((each for each in ([], ["serve"]) if each in tags), tags[0])
    options = tf.saved_model.LoadOptions(experimental_skip_checkpoint=not values)
    try:
        with tf.init_scope():
            return tf.saved_model.load(str(directory), tags_of_graph, options)
    except (AttributeError, ImportError) as error:  # the loader looks for Keras 2
        raise ValueError(
            "HubLayer: the SavedModel must not contain an optimizer of Keras 2. Received: one that TensorFlow cannot load "
            f"({error}). Save it with include_optimizer=False, or install tf_keras."
        ) from error


def _check_state(directory: Path) -> None:
    """ValueError if there is state that Keras would not save."""
    checkpoint = directory / "variables" / "variables"
    if not checkpoint.with_suffix(".index").exists():
        return
    keys = [key.split("/.ATTRIBUTES/") for key, _ in tf.train.list_variables(str(checkpoint)) if ".ATTRIBUTES/" in key]
    others = sorted({name for name, kind in keys if kind != "VARIABLE_VALUE"})
    if others:
        raise ValueError(
            "HubLayer: the module must have all of its state in variables, which Keras can save. Received: "
            f"{', '.join(others)}, perhaps a table that grows. Use tf.saved_model.load for it."
        )


def _signature(root: Any, name: str | None) -> Callable:
    names = sorted(root.signatures)
    if name is None:
        name = next((usual for usual in ("default", "serving_default", *names) if usual in names), None)
    if name not in names:
        expected = f"one of {', '.join(names)}" if names else "None, since the module has no signatures"
        raise ValueError(message("HubLayer", "signature", expected, name))
    return root.signatures[name]


def _unused_name(name: str, names: Collection[str]) -> str:
    numbered = (f"{name}_{number}" for number in range(1, len(names) + 1))
    return next(each for each in (name, *numbered) if each not in names)


def _nan_like(variable: tf.Variable) -> tf.Tensor:
    zeros = tf.zeros(variable.shape, variable.dtype)
    return zeros * float("nan") if variable.dtype.is_floating else zeros


# These use the handle of the replica's own copy. SavedModels do not say how copies are aggregated, and without that `assign`
# raises.
def _read(variable: tf.Variable) -> tf.Tensor:
    return tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)


def _write(variable: tf.Variable, value: tf.Tensor) -> None:
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)
