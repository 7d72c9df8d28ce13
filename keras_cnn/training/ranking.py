"""Average precision: how well scores rank, class by class, the examples that have the class before those that have not.

AP = Σ_n (R_n - R_(n-1)) P_n over the distinct scores from the highest down, with P_n and R_n the precision and the recall of
calling positive all that score at least as much; examples of equal scores come together. As in scikit-learn, and without lines
between the points, which would flatter (Davis & Goadrich, 2006, *The Relationship Between Precision-Recall and ROC Curves*).
"""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_cnn import arguments

# Of the metric: bins of 1/64 in the logit, which ranks as the probability does and keeps those near 0 and 1 apart.
BINS_PER_LOGIT, LARGEST_LOGIT = 64, 16
SMALLEST = 1e-7  # a probability; its logit is that of the last bin


def average_precision(scores, truth) -> np.ndarray:
    """The average precision of each class.

    Args:
        scores: `(examples, classes)`, numbers of any range, higher for more likely.
        truth: `(examples, classes)` of 0 and 1.

    Returns:
        Float64 `(classes,)` from 0 to 1; NaN for a class that no example has.

    Example: the second best of three is negative, so precision is 1/1 at recall 1/2 and 2/3 at recall 1.
        >>> average_precision([[0.9], [0.6], [0.5]], [[1], [0], [1]]).round(4)
        array([0.8333])
    """
    scores, truth = np.asarray(scores), np.asarray(truth, "float64")
    if scores.ndim != 2 or scores.shape != truth.shape:
        expected = "(examples, classes), as `truth`"
        raise ValueError(arguments.message("average_precision", "scores", expected, (scores.shape, truth.shape)))
    found = np.full(scores.shape[1], np.nan)
    for number in np.flatnonzero(truth.any(0)):
        _, bins = np.unique(-scores[:, number], return_inverse=True)
        counts = np.bincount(bins, truth[:, number]), np.bincount(bins).astype("float64")
        found[number] = float(_from_counts(*counts))
    return found


@keras.saving.register_keras_serializable(package="keras_cnn")
class MeanAveragePrecision(keras.metrics.Metric):
    """The mean of `average_precision` over the classes that an example has had, as a metric for `model.fit`.

    Probabilities whose logits are less than 1/64 apart may count as equal: so the state has one size, whatever the number of
    examples. (`keras.metrics.AUC(curve="PR", multi_label=True)` interpolates, takes probabilities less than 0.005 apart for
    equal, and counts a class that no example has as 0.)

    Args:
        classes: Number of classes.
        name: As in Keras.
    """

    def __init__(self, classes: int, name: str = "mean_average_precision", **kwargs):
        super().__init__(name=name, **kwargs)
        self.classes = arguments.integer("MeanAveragePrecision", "classes", classes)
        shape = (2 * LARGEST_LOGIT * BINS_PER_LOGIT, self.classes)
        self._positives = self.add_variable(shape, "zeros", name="positives")
        self._examples = self.add_variable(shape, "zeros", name="examples")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count a batch: `(batch, classes)` of 0 and 1, and probabilities."""
        truth, scores = ops.cast(y_true, self.dtype), ops.cast(y_pred, self.dtype)
        weights = ops.ones_like(scores)
        if sample_weight is not None:
            weights *= ops.reshape(ops.cast(sample_weight, self.dtype), (-1, 1))
        scores = ops.clip(scores, SMALLEST, 1 - SMALLEST)
        logits = ops.log(scores) - ops.log1p(-scores)
        bins, classes = self._examples.shape
        places = ops.cast(ops.floor((LARGEST_LOGIT - logits) * BINS_PER_LOGIT), "int32")
        places = ops.clip(places, 0, bins - 1) * classes + ops.arange(classes, dtype="int32")
        for variable, counted in ((self._positives, weights * truth), (self._examples, weights)):
            counts = ops.segment_sum(ops.reshape(counted, (-1,)), ops.reshape(places, (-1,)), bins * classes)
            variable.assign_add(ops.reshape(counts, (bins, classes)))

    def result(self):
        """A number from 0 to 1; 0 where no example has had any class."""
        known = ops.cast(ops.any(self._positives > 0, axis=0), self.dtype)
        found = _from_counts(self._positives, self._examples)
        return ops.sum(known * found) / ops.maximum(ops.sum(known), 1)

    def get_config(self):
        """As in Keras."""
        return {**super().get_config(), "classes": self.classes}


def _from_counts(positives, examples):
    """Average precision from how many positives and how many examples each score has, the highest first, along axis 0."""
    found, seen = ops.cumsum(positives, axis=0), ops.cumsum(examples, axis=0)
    gained = ops.sum(positives * found / ops.maximum(seen, 1e-30), axis=0)
    return gained / ops.maximum(found[-1], 1e-30)
