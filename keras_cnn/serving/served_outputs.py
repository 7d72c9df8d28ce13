"""From what a model gives to probabilities, and whether that is what it gives."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

ACTIVATIONS = {"softmax": tf.nn.softmax, "sigmoid": tf.sigmoid}
OPERATIONS = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
# What averages, weighs, joins or reshapes probabilities, the complement 1 - p among it.
MIXING = {
    *("Identity", "Cast", "Reshape", "Squeeze", "ExpandDims", "Transpose", "StopGradient", "EnsureShape"),
    *("Add", "AddV2", "AddN", "Sub", "Mul", "RealDiv", "Mean", "ConcatV2", "Pack", "StridedSlice", "GatherV2"),
}
SLACK = 1e-4


def probabilities(outputs, temperature: float = 1.0, activation: str | None = None, binary: bool = False):
    """The probabilities that are served; to be called while a graph is traced.

    Args:
        outputs: `(batch, classes)`, what the model gives.
        temperature: The logits are divided by it.
        activation: "softmax" or "sigmoid" for outputs that are logits.
        binary: Whether the only output is the probability of the second of two classes.
    """
    sources, _ = origin(outputs)
    if activation and sources <= OPERATIONS.keys():
        raise ValueError(
            "export: `activation` must be None for a model that gives probabilities already. Received: "
            f"activation={activation!r}, and a model that ends in {_named(sources)}."
        )
    if binary and activation != "sigmoid" and (activation or sources != {"Sigmoid"}):
        raise ValueError(
            "export: `labels` must be one name for a model with one output, or two names if it ends in sigmoid. Received: two "
            f'and a model that ends in {activation or _named(sources)}. Name activation="sigmoid" if it gives a logit.'
        )
    scores = ACTIVATIONS[activation](outputs / temperature) if activation else calibrated(outputs, temperature)
    return tf.concat([1 - scores, scores], -1) if binary else scores


def calibrated(scores, temperature: float):
    """Scores of a softmax or of sigmoids with its logits divided by `temperature`; to be called while a graph is traced.

    Guo et al., 2017, *On Calibration of Modern Neural Networks*, arXiv:1706.04599, eq. 9: softmax(z / T).
    """
    if temperature == 1:
        return scores
    operation = scores.op
    while operation.type in ("Identity", "Cast"):
        operation = operation.inputs[0].op
    if operation.type not in OPERATIONS:
        raise ValueError(
            "export: `temperature` must be 1 unless the model ends in softmax or sigmoid. "
            f"Received: temperature={temperature}, and a model that ends in {operation.type}. If it gives logits, name "
            'activation="softmax", or "sigmoid" for several labels an image.'
        )
    logits = tf.cast(operation.inputs[0], tf.float32)
    return ACTIVATIONS[OPERATIONS[operation.type]](logits / temperature)


def origin(scores) -> tuple[set, set]:
    """The operations that a tensor is mixed from, and those that mix it, as types; constants and weights are passed over."""
    sources, mixers, waiting, seen = set(), set(), [scores.op], set()
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


def independent(scores) -> bool:
    """Whether each score is the sigmoid of its own logit: several labels an image."""
    sources, mixers = origin(scores)
    return sources == {"Sigmoid"} and "Sub" not in mixers  # p and 1 - p exclude each other


def require_probabilities(scores, values) -> None:
    """ValueError unless a model gives probabilities.

    They are made of softmax or sigmoid and lie within 0 and 1, or they sum to 1, by whatever way they come about.

    Args:
        scores: The tensor in the graph.
        values: `(images, classes)`, what it is for some images.
    """
    sources, _ = origin(scores)
    values = np.asarray(values)
    within = values.min() >= -SLACK and values.max() <= 1 + SLACK
    if within and (sources <= OPERATIONS.keys() or _sum_to_one(values)):
        return
    raise ValueError(
        "export: `model` must give probabilities, by softmax or sigmoid. Received: outputs from "
        f'{values.min():.3g} to {values.max():.3g}, by {_named(sources)}. If they are logits, name activation="softmax", or '
        '"sigmoid" for several labels an image; a regression is no classifier: use Keras\' model.export().'
    )


def _sum_to_one(values):
    return values.shape[1] > 1 and np.abs(values.sum(1) - 1).max() <= 10 * SLACK


def _named(sources):
    return " and ".join(sorted(OPERATIONS.get(name, name) for name in sources)) or "a constant"
