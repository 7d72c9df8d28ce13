"""Rewrites of functional models. Layers are shared, never copied: training a part trains the whole."""

from keras_cnn.surgery.cutting import cut
from keras_cnn.surgery.folding import fold_batch_norm, unfolded_batch_norms
from keras_cnn.surgery.frozen_folding import fold_frozen
from keras_cnn.surgery.input_channels import adapt_input_channels
from keras_cnn.surgery.nesting import unnest
from keras_cnn.surgery.splitting import can_split, output_of, split
from keras_cnn.surgery.swapping import swap_head

__all__ = [
    "adapt_input_channels",
    "can_split",
    "cut",
    "fold_batch_norm",
    "fold_frozen",
    "output_of",
    "split",
    "swap_head",
    "unfolded_batch_norms",
    "unnest",
]
