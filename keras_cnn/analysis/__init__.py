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
# They need Matplotlib, which is imported when one of them is asked for.
_MODULE_OF_PLOT = {
    "plot_convolution_matrix": "matrices.matrix_figure",
    "plot_effective_field": "explain.overlays",
    "plot_grad_cam": "explain.overlays",
}


def __getattr__(name):
    if name in _MODULE_OF_PLOT:
        return getattr(importlib.import_module(f"keras_cnn.analysis.{_MODULE_OF_PLOT[name]}"), name)
    raise AttributeError(f"module 'keras_cnn.analysis' has no attribute {name!r}")


def __dir__():
    return __all__
