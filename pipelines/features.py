"""Activations of the frozen part of a network, computed once for every image."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from pipelines import input as inputs

BATCH_SIZE = 32


def inference(model: keras.Model):
    """A function of a float32 batch of any size: what `model` gives in inference mode, as an array."""
    # One trace for all batch sizes; `model.predict` traces anew for the last batch and for each call on other data.
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)]
    run = tf.function(lambda batch: model(batch, training=False), input_signature=signature)
    return lambda batch: run(tf.cast(batch, tf.float32)).numpy()


def predict(run, activations: np.ndarray) -> np.ndarray:
    """What `run`, a function from `inference`, gives for kept activations, a batch at a time."""
    return np.concatenate([run(activations[i : i + BATCH_SIZE]) for i in range(0, len(activations), BATCH_SIZE)])


def compute(run, paths, preprocessing, progress, mirror: bool = False) -> np.ndarray:
    """Run the frozen front of a network over image files.

    Args:
        run: A function from `inference`: images `(batch, height, width, 3)` RGB 0..255 -> activations `(batch, ...)`.
        paths: Readable image files.
        preprocessing: `keras_cnn.Preprocessing` of the network.
        progress: Called with the number of images done since the last call.
        mirror: Whether to turn left and right round.

    Returns:
        Float16 array `(len(paths), ...)`: half the memory, with a rounding (2^-11) far below what training adds as noise.
    """
    activations, filled = None, 0
    for _, batch in inputs.batches(paths, preprocessing, BATCH_SIZE):
        found = run(batch[:, :, ::-1] if mirror else batch)
        if activations is None:
            activations = np.empty((len(paths), *found.shape[1:]), np.float16)
        activations[filled : filled + len(found)] = found
        filled += len(found)
        progress(len(found))
    if filled != len(paths):
        raise OSError(
            f"{len(paths) - filled} of {len(paths)} image files could be read a moment ago and cannot any more."
        )
    return activations
