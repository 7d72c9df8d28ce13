"""What `model.fit` lacks."""

from keras_cnn.training.freezing import check_frozen, freeze, unfreeze
from keras_cnn.training.logistic_regression import LinearHead, solve_head

__all__ = ["LinearHead", "check_frozen", "freeze", "solve_head", "unfreeze"]
