"""Activations of the frozen part of a network: computed once for every image, and kept for later jobs."""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf

from keras_cnn import surgery
from keras_cnn.serving.network import with_constants
from pipelines import device
from pipelines.datasets.array_cache import Cache, digest
from pipelines.errors import TrainingError
from pipelines.training.fingerprints import network_digest

BATCH_SIZE = 32
FOLDED_FROM = 1000  # images: to rewrite the network takes time, too
KEPT = 3 / 4  # of the cache at most, for the views of one job: those of others and the pictures lie there too


def inference(model: keras.Model, images: int = 0, precision: str = "float32"):
    """A function of a float32 batch of any size: what `model` gives in inference mode, as an array.

    Args:
        model: A functional model with one input and one output.
        images: How many it will be called for; where they are many, the network is rewritten first: batch norms folded,
            weights constant.
        precision: Of that rewritten network, as in `keras_cnn.export`.
    """
    # One trace for all batch sizes; `model.predict` traces anew for the last batch and for each call on other data.
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)]
    rewritten = model if images < FOLDED_FROM else surgery.fold_batch_norm(model)

    def answer(batch):
        return {"": tf.cast(rewritten(batch, training=False), tf.float32)}

    run = answer if images < FOLDED_FROM else with_constants(answer, model.input_shape, precision)
    run = tf.function(run, input_signature=signature, jit_compile=device.has_gpu(), autograph=False)
    concrete = run.get_concrete_function()  # it stays silent where TensorFlow warns of many functions of one name
    return lambda batch: concrete(tf.cast(batch, tf.float32))[""].numpy()


def precision(images: int) -> str:
    """What to compute kept activations in: bfloat16 where processor or GPU can, if there are many."""
    return "bfloat16" if images >= FOLDED_FROM and device.has_bfloat16() else "float32"


def in_batches(run, activations: np.ndarray) -> np.ndarray:
    """What `run`, a function from `inference`, gives for kept activations, a batch at a time."""
    return np.concatenate([run(activations[i : i + BATCH_SIZE]) for i in range(0, len(activations), BATCH_SIZE)])


class Front:
    """The frozen part of a network, and the cache of what it gave.

    Args:
        model: Images RGB 0..255 -> activations.
        network: The `keras_cnn.Backbone` that it is a part of.
        cache: A `Cache`.
        images: How many it will be run over.
        exact: Whether to compute in float32, as the exported network does; otherwise in bfloat16 where processor or GPU can.
    """

    def __init__(self, model: keras.Model, network, cache: Cache, images: int, exact: bool = False):
        chosen = "float32" if exact else precision(images)
        self._run, self._cache = None, cache
        self._make = lambda: inference(model, images, chosen)
        self._shape = model.compute_output_shape((1, *network.preprocessing.size, 3))[1:]
        self._boundary = model.layers[-1].name
        self._key = digest(chosen, str(network.source), self._boundary, network_digest(model))

    def views_that_fit(self, examples: int) -> int:
        """Of how many views of so many examples the cache can keep the activations."""
        return int(KEPT * self._cache.limit / (2 * examples * math.prod(self._shape)))

    def activations(self, batches, key: str, view: str, progress, epoch: int = 0) -> np.ndarray:
        """Those of one view of some images: float16 `(images, ...)`, from the cache where they are there.

        Float16 is half the size, with a rounding (2^-11) far below what training adds as noise.

        Args:
            batches: `pipelines.datasets.image_batches.Batches`, not shuffled.
            key: A digest of the images, and of how `batches` vary them.
            view: "plain", or "mirrored": left and right turned round.
            progress: Called with the number of images done since the last call.
            epoch: Of `batches`; where they vary the images, each is another view.

        Raises:
            TrainingError: If some are not finite, or larger than float16 can be.
        """
        done = 0

        def fill(array):
            nonlocal done
            self._run = self._run or self._make()
            for images, _ in batches(epoch):
                kept = array[done : done + len(images)]
                with np.errstate(over="ignore"):
                    kept[:] = self._run(images if view == "plain" else images[:, :, ::-1])
                if not np.isfinite(kept).all():
                    raise self._not_finite()
                done += len(images)
                progress(len(images))

        name = digest("activations", self._key, key, view, epoch)
        array = self._cache.array(name, (batches.examples, *self._shape), np.float16, fill)
        progress(batches.examples - done)
        return array

    def _not_finite(self):
        return TrainingError(
            f"What the network gives at layer {self._boundary} must be finite and within ±65,504, as numbers of 16 bits are, "
            "and is not: look for weights that are broken, or keep none of it with --train all."
        )
