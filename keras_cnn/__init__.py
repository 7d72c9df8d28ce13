"""Convolutional networks and transfer learning for Keras 3: `import keras_cnn as kc`."""

import importlib

from keras_cnn import analysis, backbones, blocks, geometry, heads, layers, serving, surgery, training
from keras_cnn.analysis import analyze
from keras_cnn.backbones import Backbone, load_backbone
from keras_cnn.builder import attach, build
from keras_cnn.preprocessing import Preprocessing
from keras_cnn.serving import export, verify
from keras_cnn.surgery import adapt_input_channels, cut, fold_batch_norm, fold_frozen, swap_head, unnest
from keras_cnn.training import check_frozen, freeze, unfreeze
from keras_cnn.version import __version__

__all__ = [
    "Backbone",
    "Preprocessing",
    "__version__",
    "adapt_input_channels",
    "analysis",
    "analyze",
    "attach",
    "backbones",
    "blocks",
    "build",
    "check_frozen",
    "cut",
    "export",
    "fold_batch_norm",
    "fold_frozen",
    "freeze",
    "geometry",
    "heads",
    "images",
    "layers",
    "load_backbone",
    "serving",
    "surgery",
    "swap_head",
    "training",
    "unfreeze",
    "unnest",
    "verify",
]


def __getattr__(name):
    # `images` needs TensorFlow; all else also works with Keras on JAX, so it is imported when it is asked for.
    if name == "images":
        return importlib.import_module("keras_cnn.images")
    raise AttributeError(f"module 'keras_cnn' has no attribute {name!r}")
