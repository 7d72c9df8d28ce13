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


def in_batches(run, activations: np.ndarray) -> np.ndarray:
    """What `run`, a function from `inference`, gives for kept activations, a batch at a time."""
    return np.concatenate([run(activations[i : i + BATCH_SIZE]) for i in range(0, len(activations), BATCH_SIZE)])


def compute(run, paths, preprocessing, progress, files) -> list[np.ndarray]:
    """Run the frozen front of a network over image files, each decoded once.

    Args:
        run: A function from `inference`: images `(batch, height, width, 3)` RGB 0..255 -> activations `(batch, ...)`.
        paths: Readable image files.
        preprocessing: `keras_cnn.Preprocessing` of the network.
        progress: Called with the number of images done since the last call.
        files: Where to keep the activations, a path for each view: of the images, and if there is a second one, of the
            same with left and right turned round.

    Returns:
        For each view a float16 array `(len(paths), ...)` that lies on disk and is read as needed: half the size, with a
        rounding (2^-11) far below what training adds as noise.
    """
    views, filled = None, 0
    for batch in inputs.complete_batches(paths, preprocessing, BATCH_SIZE):
        found = [run(image) for image in (batch, batch[:, :, ::-1])[: len(files)]]
        if views is None:
            shape = (len(paths), *found[0].shape[1:])
            views = [np.lib.format.open_memmap(file, "w+", np.float16, shape) for file in files]
        for view, activations in zip(views, found, strict=True):
            view[filled : filled + len(batch)] = activations
        filled += len(batch)
        progress(len(batch))
    return views
