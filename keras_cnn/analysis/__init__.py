"""See inside any Keras model: receptive fields, cost, convolutions as matrices, explanations."""

from keras_cnn.analysis.effective import effective_field
from keras_cnn.analysis.gradients import grad_cam
from keras_cnn.analysis.inspection import analyze, receptive_field
from keras_cnn.analysis.matrix import convolution_matrix
from keras_cnn.analysis.matrix_picture import plot_convolution_matrix
from keras_cnn.analysis.overlays import plot_effective_field, plot_grad_cam
from keras_cnn.analysis.record import Analysis, Row

__all__ = [
    "Analysis",
    "Row",
    "analyze",
    "convolution_matrix",
    "effective_field",
    "grad_cam",
    "plot_convolution_matrix",
    "plot_effective_field",
    "plot_grad_cam",
    "receptive_field",
]
