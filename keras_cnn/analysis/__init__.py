"""See inside any Keras model: receptive fields, cost, convolutions as matrices, explanations."""

import importlib

from keras_cnn.analysis.explain.class_activation import grad_cam
from keras_cnn.analysis.explain.effective import effective_field
from keras_cnn.analysis.inspection import analyze, receptive_field
from keras_cnn.analysis.matrices.matrix import convolution_matrix
from keras_cnn.analysis.result import Analysis, Row

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
_PICTURES = {
    "matrices.matrix_figure": ["plot_convolution_matrix"],
    "explain.overlays": ["plot_effective_field", "plot_grad_cam"],
}


def __getattr__(name):
    # They need matplotlib, which is imported when a picture is asked for.
    for module, functions in _PICTURES.items():
        if name in functions:
            return getattr(importlib.import_module(f"keras_cnn.analysis.{module}"), name)
    raise AttributeError(f"module 'keras_cnn.analysis' has no attribute {name!r}")
