"""What `model.fit` lacks."""

from keras_cnn.training.averaging import AveragedWeights
from keras_cnn.training.freezing import FrozenWeightsError, check_frozen, freeze, unfreeze
from keras_cnn.training.gradual import GradualUnfreezing
from keras_cnn.training.layerwise import layerwise_optimizer
from keras_cnn.training.logistic_regression import LinearHead, solve_head
from keras_cnn.training.precision_policy import mixed_precision
from keras_cnn.training.ranking import MeanAveragePrecision
from keras_cnn.training.rate_finder import RateCurve, find_learning_rate
from keras_cnn.training.resumption import ExactResume

__all__ = [
    "AveragedWeights",
    "ExactResume",
    "FrozenWeightsError",
    "GradualUnfreezing",
    "LinearHead",
    "MeanAveragePrecision",
    "RateCurve",
    "check_frozen",
    "find_learning_rate",
    "freeze",
    "layerwise_optimizer",
    "mixed_precision",
    "solve_head",
    "unfreeze",
]
