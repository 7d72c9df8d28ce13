"""Squeeze-and-excitation: channels are weighted by the content of the whole map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import keras
from keras import activations, ops

from keras_cnn import arguments


@keras.saving.register_keras_serializable(package="keras_cnn")
class SqueezeExcite(keras.layers.Layer):
    """Feature map whose channels are scaled by gates that are computed from all of its positions.

    The mean z of each channel goes through a bottleneck of C / ratio units, and the gates multiply the channels:

        y = x * gate(W2 activation(W1 z + b1) + b2)

    Differs from the paper in: biases, which the authors' released networks have and their equations omit.

    Args:
        ratio: Integer of at least 1: the reduction ratio r, 16 in the paper. The bottleneck has
            max(1, channels // ratio) units, so 4 keeps a quarter of them.
        activation: Activation of the bottleneck, a name or a function.
        gate_activation: Activation that gives the gates, a name or a function, usually with values in [0, 1].
        data_format: "channels_last", "channels_first" or None, the setting of `keras.config`.
        kwargs: `name`, `dtype` and `trainable`, as in every layer.
    Call arguments:
        inputs: `(batch, ..., channels)`, any number of spatial axes, or `(batch, channels, ...)` if channels_first.
    Output shape: the shape of `inputs`.
    Raises:
        ValueError: If `ratio` is not an integer of at least 1, or if the number of channels is unknown.
    Example:
        >>> tuple(SqueezeExcite(ratio=4)(keras.ops.ones((2, 7, 7, 32))).shape)
        (2, 7, 7, 32)

    Reference: Hu et al., 2018, *Squeeze-and-Excitation Networks*, arXiv:1709.01507, eqs. 2 to 4.
    """

    def __init__(
        self,
        ratio: int = 16,
        activation: str | Callable = "relu",
        gate_activation: str | Callable = "sigmoid",
        data_format: Literal["channels_last", "channels_first"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ratio = arguments.integer("SqueezeExcite", "ratio", ratio)
        self.activation = activations.get(activation)
        self.gate_activation = activations.get(gate_activation)
        data_format = data_format or keras.config.image_data_format()
        self.data_format = arguments.one_of("SqueezeExcite", "data_format", data_format, arguments.DATA_FORMATS)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = input_shape[1 if self.data_format == "channels_first" else -1]
        if channels is None:
            text = "SqueezeExcite: the channel axis of the input must be known. Received: input_shape="
            raise ValueError(f"{text}{tuple(input_shape)}. Name the number of channels in keras.Input.")
        units = max(1, channels // self.ratio)
        self.reduce = keras.layers.Dense(units, self.activation, dtype=self.dtype_policy, name="reduce")
        self.expand = keras.layers.Dense(channels, self.gate_activation, dtype=self.dtype_policy, name="expand")
        self.reduce.build((input_shape[0], channels))
        self.expand.build((input_shape[0], units))

    def call(self, inputs: Any) -> Any:
        first = self.data_format == "channels_first"
        axes = tuple(range(2, inputs.ndim) if first else range(1, inputs.ndim - 1))
        gates = self.expand(self.reduce(ops.mean(inputs, axes)))
        return inputs * ops.expand_dims(gates, axes)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "ratio": self.ratio,
            "activation": activations.serialize(self.activation),
            "gate_activation": activations.serialize(self.gate_activation),
            "data_format": self.data_format,
        }
