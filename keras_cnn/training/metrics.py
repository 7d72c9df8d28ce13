"""Average precision: how well scores rank, class by class, the examples of a class before all others.

AP = Σ_n (R_n - R_(n-1)) P_n over the distinct scores from the highest down, with P_n and R_n the precision and the recall when
every example that scores at least as much counts as positive; examples of equal scores enter together. The definition is that
of scikit-learn: no interpolation between the points, which is too optimistic (Davis & Goadrich, 2006, *The Relationship
Between Precision-Recall and ROC Curves*).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_cnn import arguments

# Bins of the metric: 1/64 wide in the logit, which ranks as the probability does and separates values near 0 and near 1.
BINS_PER_LOGIT, LARGEST_LOGIT = 64, 16
SMALLEST = 1e-7  # a probability, whose logit falls into the last bin


def average_precision(scores: ArrayLike, targets: ArrayLike) -> np.ndarray:
    """The average precision of each class.

    Args:
        scores: `(examples, classes)`, numbers of any range, higher for more likely.
        targets: `(examples, classes)` of 0 and 1.

    Returns:
        Float64 `(classes,)` from 0 to 1; NaN for a class without examples.

    Example: the second best of three is negative, so precision is 1/1 at recall 1/2 and 2/3 at recall 1.
        >>> average_precision([[0.9], [0.6], [0.5]], [[1], [0], [1]]).round(4)
        array([0.8333])
    """
    scores, targets = np.asarray(scores), np.asarray(targets, "float64")
    if scores.ndim != 2 or scores.shape != targets.shape:
        expected = "(examples, classes), as `targets`"
        raise ValueError(arguments.message("average_precision", "scores", expected, (scores.shape, targets.shape)))
    result = np.full(scores.shape[1], np.nan)
    for index in np.flatnonzero(targets.any(0)):
        _, bins = np.unique(-scores[:, index], return_inverse=True)
        positives, examples = np.bincount(bins, targets[:, index]), np.bincount(bins).astype("float64")
        result[index] = float(_from_counts(positives, examples))
    return result


@keras.saving.register_keras_serializable(package="keras_cnn")
class MultiLabelAveragePrecision(keras.metrics.Metric):
    """The mean of `average_precision` over the labels that have examples, as a metric for `model.fit`.

    Probabilities whose logits differ by less than 1/64 may count as equal: so the state has a fixed size, whatever the number
    of examples. (`keras.metrics.AUC(curve="PR", multi_label=True)` interpolates, takes probabilities less than 0.005 apart for
    equal, and counts a label without examples as 0.)

    Args:
        num_labels: Number of labels.
        name: As in Keras.
    """

    def __init__(self, num_labels: int, name: str = "mean_average_precision", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.num_labels = arguments.integer("MultiLabelAveragePrecision", "num_labels", num_labels)
        shape = (2 * LARGEST_LOGIT * BINS_PER_LOGIT, self.num_labels)
        self._positives = self.add_variable(shape, "zeros", name="positives")
        self._examples = self.add_variable(shape, "zeros", name="examples")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch: `(batch, labels)` of 0 and 1, and probabilities."""
        targets, probabilities = ops.cast(y_true, self.dtype), ops.cast(y_pred, self.dtype)
        weights = ops.ones_like(probabilities)
        if sample_weight is not None:
            weights *= ops.reshape(ops.cast(sample_weight, self.dtype), (-1, 1))
        probabilities = ops.clip(probabilities, SMALLEST, 1 - SMALLEST)
        logits = ops.log(probabilities) - ops.log1p(-probabilities)
        bins, labels = self._examples.shape
        indices = ops.cast(ops.floor((LARGEST_LOGIT - logits) * BINS_PER_LOGIT), "int32")
        indices = ops.clip(indices, 0, bins - 1) * labels + ops.arange(labels, dtype="int32")
        for variable, counted in ((self._positives, weights * targets), (self._examples, weights)):
            counts = ops.segment_sum(ops.reshape(counted, (-1,)), ops.reshape(indices, (-1,)), bins * labels)
            variable.assign_add(ops.reshape(counts, (bins, labels)))

    def result(self) -> Any:
        """A number from 0 to 1; 0 if no label has examples."""
        has_examples = ops.cast(ops.any(self._positives > 0, axis=0), self.dtype)
        precisions = _from_counts(self._positives, self._examples)
        return ops.sum(has_examples * precisions) / ops.maximum(ops.sum(has_examples), 1)

    def get_config(self) -> dict[str, Any]:
        """As in Keras."""
        return {**super().get_config(), "num_labels": self.num_labels}


def _from_counts(positives, examples):
    """Average precision from the number of positives and of examples per score, the highest score first, along axis 0."""
    true_positives, predicted_positives = ops.cumsum(positives, axis=0), ops.cumsum(examples, axis=0)
    total = ops.sum(positives * true_positives / ops.maximum(predicted_positives, 1e-30), axis=0)
    return total / ops.maximum(true_positives[-1], 1e-30)
