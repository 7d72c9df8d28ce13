"""Makes probabilities of what a model gives, and checks that it gives probabilities."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

ACTIVATIONS = {"softmax": tf.nn.softmax, "sigmoid": tf.sigmoid}
# TensorFlow operation -> the activation that it computes.
OPERATIONS = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
# Operations that average, weigh, join or reshape probabilities, among them the complement 1 - p.
MIXING = {
    *("Identity", "Cast", "Reshape", "Squeeze", "ExpandDims", "Transpose", "StopGradient", "EnsureShape"),
    *("Add", "AddV2", "AddN", "Sub", "Mul", "RealDiv", "Mean", "ConcatV2", "Pack", "StridedSlice", "GatherV2"),
}
TOLERANCE = 1e-4


def to_probabilities(
    outputs: tf.Tensor, temperature: float = 1.0, activation: str | None = None, binary: bool = False
) -> tf.Tensor:
    """The probabilities that are served. Call it while a graph is traced.

    Args:
        outputs: `(batch, classes)`, what the model gives.
        temperature: The logits are divided by it.
        activation: "softmax" or "sigmoid" for outputs that are logits.
        binary: Whether the only output is the probability of the second of two classes.

    Raises:
        ValueError: If the model gives probabilities and `activation` is given, or if `binary` or `temperature` does not fit
            what the model gives.
    """
    sources, _ = find_sources(outputs)
    if activation and sources <= OPERATIONS.keys():
        raise ValueError(
            "export: `activation` must be None for a model that gives probabilities already. Received: "
            f"activation={activation!r}, and a model that ends in {_format_sources(sources)}."
        )
    if binary and activation != "sigmoid" and (activation or sources != {"Sigmoid"}):
        raise ValueError(
            "export: `labels` must be one name for a model with one output, or two names if it ends in sigmoid. Received: two "
            f"and a model that ends in {activation or _format_sources(sources)}. Set "
            'activation="sigmoid" if it gives a logit.'
        )
    probabilities = ACTIVATIONS[activation](outputs / temperature) if activation else calibrated(outputs, temperature)
    return tf.concat([1 - probabilities, probabilities], -1) if binary else probabilities


def calibrated(probabilities: tf.Tensor, temperature: float) -> tf.Tensor:
    """The same softmax or sigmoids with their logits divided by `temperature`. Call it while a graph is traced.

    Guo et al., 2017, *On Calibration of Modern Neural Networks*, arXiv:1706.04599, eq. 9: softmax(z / T).
    """
    if temperature == 1:
        return probabilities
    operation = probabilities.op
    while operation.type in ("Identity", "Cast"):
        operation = operation.inputs[0].op
    if operation.type not in OPERATIONS:
        raise ValueError(
            "export: `temperature` must be 1 unless the model ends in softmax or sigmoid. "
            f"Received: temperature={temperature}, and a model that ends in {operation.type}. If it gives logits, set "
            'activation="softmax", or "sigmoid" for several labels per image.'
        )
    logits = tf.cast(operation.inputs[0], tf.float32)
    return ACTIVATIONS[OPERATIONS[operation.type]](logits / temperature)


def find_sources(tensor: tf.Tensor) -> tuple[set[str], set[str]]:
    """The types of the operations that a tensor is mixed from, and of those that mix it, without constants and weights.

    A model with the output `(softmax(a) + softmax(b)) / 2` gives `({"Softmax"}, {"AddV2", "RealDiv"})`.
    """
    sources, mixers, waiting, seen = set(), set(), [tensor.op], set()
    while waiting:
        operation = waiting.pop()
        if operation.name in seen or operation.type in ("Const", "ReadVariableOp"):
            continue
        seen.add(operation.name)
        if operation.type in MIXING:
            mixers.add(operation.type)
            waiting += [tensor.op for tensor in operation.inputs]
        else:
            sources.add(operation.type)
    return sources, mixers


def is_multi_label(probabilities: tf.Tensor) -> bool:
    """Whether each probability is the sigmoid of its own logit, so that an image may have several labels."""
    sources, mixers = find_sources(probabilities)
    return sources == {"Sigmoid"} and "Sub" not in mixers  # p and 1 - p exclude each other


def check_probabilities(tensor: tf.Tensor, values: np.typing.ArrayLike) -> None:
    """ValueError unless a model gives probabilities.

    Outputs of softmax or sigmoid that lie within 0 and 1 are probabilities, and so are any outputs that also sum to 1.

    Args:
        tensor: The output in the graph.
        values: `(images, classes)`, the output for some images.
    """
    sources, _ = find_sources(tensor)
    values = np.asarray(values)
    in_range = values.min() >= -TOLERANCE and values.max() <= 1 + TOLERANCE
    if in_range and (sources <= OPERATIONS.keys() or _sum_to_one(values)):
        return
    raise ValueError(
        f"export: `model` must give probabilities, by softmax or sigmoid. Received: outputs from {values.min():.3g} to "
        f'{values.max():.3g}, by {_format_sources(sources)}. If they are logits, set activation="softmax", or "sigmoid" for '
        "several labels per image. A regression is no classifier: use Keras' model.export()."
    )


def _sum_to_one(values: np.ndarray) -> bool:
    return values.shape[1] > 1 and np.abs(values.sum(1) - 1).max() <= 10 * TOLERANCE


def _format_sources(sources: set[str]) -> str:
    return " and ".join(sorted(OPERATIONS.get(name, name) for name in sources)) or "a constant"
