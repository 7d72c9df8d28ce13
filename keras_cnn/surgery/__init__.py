"""Rewrites of functional models. Layers are shared, never copied: training a part trains the whole."""

from keras_cnn.surgery.channels import adapt_input_channels
from keras_cnn.surgery.cutting import cut
from keras_cnn.surgery.folding import fold_batch_norm, unfolded
from keras_cnn.surgery.frozen import fold_frozen
from keras_cnn.surgery.nesting import unnest
from keras_cnn.surgery.splitting import divides, output_of, split
from keras_cnn.surgery.swapping import swap_head

__all__ = [
    "adapt_input_channels",
    "cut",
    "divides",
    "fold_batch_norm",
    "fold_frozen",
    "output_of",
    "split",
    "swap_head",
    "unfolded",
    "unnest",
]
