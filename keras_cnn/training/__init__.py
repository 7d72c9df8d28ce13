"""What `model.fit` lacks."""

from keras_cnn.training.ema_weights import EMAWeights
from keras_cnn.training.exact_resume import ExactResume
from keras_cnn.training.freezing import FrozenWeightsError, check_frozen, freeze, unfreeze
from keras_cnn.training.gradual_unfreezing import GradualUnfreezing
from keras_cnn.training.layerwise import layerwise_optimizer
from keras_cnn.training.learning_rate_finder import LearningRateCurve, find_learning_rate
from keras_cnn.training.logistic_regression import LinearProbe, fit_linear_probe
from keras_cnn.training.metrics import MultiLabelAveragePrecision
from keras_cnn.training.precision_policy import mixed_precision

__all__ = [
    "EMAWeights",
    "ExactResume",
    "FrozenWeightsError",
    "GradualUnfreezing",
    "LearningRateCurve",
    "LinearProbe",
    "MultiLabelAveragePrecision",
    "check_frozen",
    "find_learning_rate",
    "fit_linear_probe",
    "freeze",
    "layerwise_optimizer",
    "mixed_precision",
    "unfreeze",
]
