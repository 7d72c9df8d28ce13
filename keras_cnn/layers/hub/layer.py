"""A SavedModel of TF Hub or Kaggle as a layer."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import keras
from keras import ops, tree

from keras_cnn import saved_model_handles
from keras_cnn.arguments import message
from keras_cnn.layers.hub.program import Program, check_trust, require_harmless


@keras.saving.register_keras_serializable(package="keras_cnn")
class HubLayer(keras.layers.Layer):
    """SavedModel from TF Hub, Kaggle or a directory, as a layer of Keras 3: its variables are weights that `fit` trains.

    Reusable SavedModels of TF2 can be trained. Those in the format of TF1 Hub, and signatures, are for inference.
    `model.save("x.keras")` puts the module into the file, with its weights stored once. A SavedModel is a program, so
    such a file loads with `keras.models.load_model("x.keras", safe_mode=False)`.

    Args:
        handle: Directory, `.tar.gz` file, URL or Kaggle handle, as in `keras_cnn.saved_model_handles.saved_model_directory`.
        trainable: Whether training changes the module. If not, it runs in inference mode during training too, and the
            statistics of batch normalisation stay as they are. The attribute can be set until the model is compiled.
        freeze: Regular expression that is searched for in the names of the weights, such as "conv_1|bn". Weights that
            match keep their values even if `trainable`. Statistics of batch normalisation that match do too, but while
            the module trains it still normalises by the batch: it has one switch for training. None: freezes nothing.
        signature: Name of a signature to call instead of the object itself. None: the object itself or, if that cannot
            be called, its signature "default", "serving_default" or the first one.
        output_key: Which output to return of a module that returns a dict (a key) or a list (an index). None: all.
        arguments: Dict of other arguments of the module, by name, with plain values. `training` is not one of them: the
            layer passes it if the module takes it.
        trust: Whether to load a module that may do more than compute, such as reading files, which is refused otherwise.
        kwargs: `name` and `dtype`, as in every layer.
    Call arguments:
        inputs: The tensor, or the list or dict of tensors, that the module takes. They are cast to its dtypes.
        training: Whether the layer is called for training.
    Output shape: the shape that the module returns. Floats are cast to the compute dtype of the layer; weights keep the
        dtype of the module.
    Raises:
        ValueError: If an argument or `inputs` do not fit the module (the message says what the module takes), or if the
            module may do more than compute (see docs/security.md) and is not trusted.
        RuntimeError: If Keras does not run on TensorFlow.

    Example:

        inputs = keras.Input((224, 224, 3))
        features = kc.layers.HubLayer("google/resnet-v2/tensorFlow2/50-feature-vector/2", trainable=True)(inputs)
        model = keras.Model(inputs, keras.layers.Dense(5, activation="softmax")(features))
    """

    def __init__(
        self,
        handle: str | os.PathLike[str],
        trainable: bool = False,
        freeze: str | None = None,
        signature: str | None = None,
        output_key: str | int | None = None,
        arguments: dict[str, Any] | None = None,
        trust: bool = False,
        **kwargs: Any,
    ) -> None:
        if keras.backend.backend() != "tensorflow":
            raise RuntimeError(
                "HubLayer: Keras must run on TensorFlow, for which SavedModels are made. Received: "
                f"KERAS_BACKEND={keras.backend.backend()}. Set KERAS_BACKEND=tensorflow before Keras is imported."
            )
        program = kwargs.pop("program", None)  # from get_config: a copy of the layer does not need the handle
        super().__init__(trainable=trainable, autocast=False, **kwargs)  # the module says what its inputs are cast to
        self.handle = os.fspath(handle)
        self.freeze = _check_pattern(freeze)
        self.signature = signature
        self.output_key = output_key
        self.arguments = _check_plain(arguments)
        self._load(program, trust)
        self._make_weights()
        if isinstance(program, Program):
            for name in self._named.keys() & program.layer._named.keys():
                self._named[name].assign(program.layer._named[name])

    def _load(self, program: Any, trust: bool) -> None:
        from keras_cnn.layers.hub import variants  # it imports TensorFlow
        from keras_cnn.layers.hub.module import Module

        if program is None:
            directory = saved_model_handles.saved_model_directory(self.handle)
            if not trust:
                require_harmless(self.handle, directory)
            self._program = Program.read(self, directory)
        else:
            self._program = Program.of(self, program)
            directory = self._program.unpack()
        self._module = Module(directory, self.signature, values=program is None)
        if self.trainable and not self._module.reusable:
            expected = "False: signatures and modules of TF1 Hub are for inference only"
            raise ValueError(message("HubLayer", "trainable", expected, True))
        variants.check_arguments(self._module.variants, self.arguments or {})
        self.supports_jit = self._module.compiles

    def _make_weights(self) -> None:
        """A keras.Variable for each variable of the module, with which it shares its storage."""
        named = {}
        with keras.name_scope(self.name, caller=self):
            for name, variable in self._module.variables.items():
                dtype = variable.dtype.name
                trainable = name in self._module.trained and not self._freezes(name)
                named[name] = keras.Variable(variable, dtype=dtype, trainable=trainable, autocast=False, name=name)
        if self.freeze is not None and not any(map(self._freezes, named)):
            known = ", ".join(list(named)[:8])
            raise ValueError(message("HubLayer", "freeze", f"a pattern found in a name, such as {known}", self.freeze))
        self._held = [name for name in named if self._freezes(name) and name not in self._module.trained]
        trainable = [variable for variable in named.values() if variable.trainable]
        if trainable and self._module.regularization_losses:
            trainable[0].regularizer = _Losses(self._module.regularization_losses)
        self._named = named  # Keras tracks them as weights of the layer from here on
        self._node = self._module.tracked(named)  # and TensorFlow finds them
        if not self.trainable:
            for variable in trainable:
                variable.trainable = False

    def _freezes(self, name: str) -> bool:
        return self.freeze is not None and re.search(self.freeze, name) is not None

    def call(self, inputs: Any, training: bool | None = False) -> Any:
        outputs = self._module(inputs, bool(training and self.trainable), self.arguments or {}, self._held)
        return tree.map_structure(self._cast, self._pick(outputs))

    def compute_output_spec(self, inputs: Any, training: bool | None = False) -> Any:
        return self._module.output_spec(self.call, inputs)  # Keras would hide the errors of `call`

    def _pick(self, outputs: Any) -> Any:
        if self.output_key is None:
            alone = not self._module.reusable and len(outputs) == 1
            return next(iter(outputs.values())) if alone else outputs
        if isinstance(outputs, dict):
            keys = sorted(outputs)
        else:
            keys = range(len(outputs)) if isinstance(outputs, list | tuple) else ()
        if self.output_key not in keys:
            expected = f"one of {', '.join(map(repr, keys))}" if keys else "None, since the module returns one tensor"
            raise ValueError(message("HubLayer", "output_key", expected, self.output_key))
        return outputs[self.output_key]

    def _cast(self, output: Any) -> Any:
        return ops.cast(output, self.compute_dtype) if keras.backend.is_float_dtype(output.dtype) else output

    def get_config(self) -> dict[str, Any]:
        config = {"handle": self.handle, "freeze": self.freeze, "signature": self.signature}
        config |= {"output_key": self.output_key, "arguments": self.arguments, "program": self._program}
        return {**super().get_config(), **config, "trainable": self.trainable and self._module.reusable}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> HubLayer:
        if not isinstance(config.get("program"), Program):
            check_trust()
        return super().from_config(config)

    # By name, so that files fit for every `freeze`: Keras numbers the weights, trainable ones first.
    def save_own_variables(self, store: Any) -> None:
        for name, variable in self._named.items():
            store[name] = variable

    def load_own_variables(self, store: Any) -> None:
        if set(store.keys()) != set(self._named):
            raise ValueError(
                f"HubLayer: the weights must be those of the module in layer {self.name!r}, {', '.join(self._named)}. "
                f"Received: {', '.join(store.keys())}."
            )
        for name, variable in self._named.items():
            variable.assign(store[name])


class _Losses(keras.regularizers.Regularizer):
    """The losses of a module. A weight carries them, so they count once however often the layer is called."""

    def __init__(self, losses):
        self.losses = losses

    def __call__(self, variable):
        return sum(loss() for loss in self.losses)


def _check_pattern(freeze: str | None) -> str | None:
    try:
        return freeze if freeze is None else re.compile(freeze).pattern
    except (re.error, TypeError) as error:
        raise ValueError(message("HubLayer", "freeze", f"a regular expression ({error})", freeze)) from None


def _check_plain(arguments: dict[str, Any] | None) -> dict[str, Any] | None:
    """`arguments` if a saved file can hold them; ValueError otherwise."""
    try:
        if arguments is None or (isinstance(arguments, dict) and json.loads(json.dumps(arguments)) == arguments):
            return arguments
    except (TypeError, ValueError):
        pass
    raise ValueError(message("HubLayer", "arguments", "a dict of names and plain values", arguments))
