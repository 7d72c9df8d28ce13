"""Features of the frozen part of a network: computed once for every image, and cached for later jobs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import keras
import numpy as np
import tensorflow as tf

from keras_cnn import Backbone, surgery
from keras_cnn.serving.network import with_constants
from pipelines import device
from pipelines.datasets.array_cache import ArrayCache, digest
from pipelines.datasets.image_batches import ImageBatches
from pipelines.errors import TrainingError
from pipelines.training.fingerprints import network_digest
from pipelines.training.split_images import BATCH_SIZE

FOLDED_FROM = 1000  # images; below this, rewriting the network costs more than it saves
LARGEST_SHARE = 3 / 4  # of the cache that the copies of one job may fill: other jobs and decoded images need room too


@dataclass(frozen=True)
class Partition:
    """A classifier cut into parts that share its layers.

    Attributes:
        frozen: Images -> features at the layer whose features are cached.
        rest: Those features -> probabilities.
        neck: Those features -> pooled features; None where the features are pooled already.
        head: Pooled features -> probabilities.
    """

    frozen: keras.Model
    rest: keras.Model
    neck: keras.Model | None
    head: keras.Model


def partition(model: keras.Model, feature_layer: str) -> Partition:
    """Cut a classifier that has a layer "pool" after the layer of that name."""
    frozen, rest = surgery.split(model, feature_layer)
    neck, head = surgery.split(rest, "pool") if feature_layer != "pool" else (None, rest)
    return Partition(frozen, rest, neck, head)


def inference(model: keras.Model, images: int = 0, precision: str = "float32") -> Callable[[np.ndarray], np.ndarray]:
    """A function of a float32 batch of any size: what `model` gives in inference mode, as an array.

    Args:
        model: A functional model with one input and one output.
        images: How many it will be called for; where they are many, the network is rewritten first: batch norms folded,
            weights constant.
        precision: Of that rewritten network, as in `keras_cnn.export`.
    """
    # One trace for all batch sizes; `model.predict` traces again for the last batch and for each call on other data.
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)]
    rewritten = model if images < FOLDED_FROM else surgery.fold_batch_norm(model)

    def answer(batch):
        return {"": tf.cast(rewritten(batch, training=False), tf.float32)}

    run = answer if images < FOLDED_FROM else with_constants(answer, model.input_shape, precision)
    run = tf.function(run, input_signature=signature, jit_compile=device.has_gpu(), autograph=False)
    concrete = run.get_concrete_function()  # it stays silent where TensorFlow warns of many functions of one name
    return lambda batch: concrete(tf.cast(batch, tf.float32))[""].numpy()


def precision_for(images: int) -> str:
    """The precision of cached features: bfloat16 where processor or GPU can, if there are many images."""
    return "bfloat16" if images >= FOLDED_FROM and device.has_bfloat16() else "float32"


def in_batches(run: Callable[[np.ndarray], np.ndarray], features: np.ndarray) -> np.ndarray:
    """What `run`, a function from `inference`, gives for cached features, batch by batch."""
    return np.concatenate([run(features[i : i + BATCH_SIZE]) for i in range(0, len(features), BATCH_SIZE)])


class FeatureExtractor:
    """The frozen part of a network, and the cache of its features.

    Args:
        model: Images RGB 0..255 -> features.
        backbone: The `keras_cnn.Backbone` that it is a part of.
        cache: An `ArrayCache`.
        images: How many images it will run over.
        exact: Whether to compute in float32, as the exported network does; otherwise as `precision_for` says.

    Attributes:
        images: As given.
    """

    def __init__(self, model: keras.Model, backbone: Backbone, cache: ArrayCache, images: int, exact: bool = False):
        precision = "float32" if exact else precision_for(images)
        self.images = images
        self._run: Callable[[np.ndarray], np.ndarray] | None = None
        self._cache = cache
        self._make = lambda: inference(model, images, precision)
        self._shape = model.compute_output_shape((1, *backbone.preprocessing.size, 3))[1:]
        self._layer = model.layers[-1].name
        self._key = digest(precision, str(backbone.source), self._layer, network_digest(model))

    def copies_that_fit(self, images: int) -> int:
        """How many augmented copies of so many images the cache has room for."""
        return int(LARGEST_SHARE * self._cache.limit / (2 * images * math.prod(self._shape)))

    def features(
        self,
        batches: ImageBatches,
        key: str,
        progress: Callable[[int], object],
        flipped: bool = False,
    ) -> np.ndarray:
        """The features of some images, float16 `(images, ...)`, from the cache where they are there.

        Float16 is half the size, with a rounding (2^-11) far below the noise of training.

        Args:
            batches: `pipelines.datasets.image_batches.ImageBatches`, not shuffled.
            key: A digest of the images.
            progress: Called with the number of images done since the last call.
            flipped: Whether to flip them left to right.

        Raises:
            TrainingError: If some are not finite, or larger than float16 can be.
        """
        return self._get_or_compute(batches, key, progress, flipped, 0, lambda: batches(0))

    def copies(
        self, batches: ImageBatches, key: str, progress: Callable[[int], object], count: int
    ) -> tuple[np.ndarray, ...]:
        """The features of `count` augmented copies of some images, as `features` gives them: of the epochs from 1 on.

        Args:
            batches: As in `features`; in each epoch they augment the images in another way.
            key: A digest of the images, and of how `batches` augment them.
            progress: Called with the number of images done since the last call.
            count: Number of copies.
        """
        passes = _Passes(batches, count + 1)
        return tuple(
            self._get_or_compute(batches, key, progress, False, epoch, partial(passes, epoch))
            for epoch in range(1, count + 1)
        )

    def _get_or_compute(self, batches, key, progress, flipped, epoch, examples):
        done = 0

        def fill(array):
            nonlocal done
            self._run = self._run or self._make()
            for images, _ in examples():
                rows = array[done : done + len(images)]
                with np.errstate(over="ignore"):
                    rows[:] = self._run(images[:, :, ::-1] if flipped else images)
                if not np.isfinite(rows).all():
                    raise self._not_finite()
                done += len(images)
                progress(len(images))

        name = digest("features", self._key, key, flipped, epoch)
        array = self._cache.get_or_compute(name, (batches.examples, *self._shape), np.float16, fill)
        progress(batches.examples - done)
        return array

    def _not_finite(self):
        return TrainingError(
            f"The features at layer {self._layer} must be finite and at most 65,504 (float16). Received others. Check the "
            "weights, or use --train all, which caches only pooled features."
        )


class _Passes:
    """A function of an epoch: its batches. Epochs in a row come from one pipeline: it takes a second to build one.

    Args:
        batches: `ImageBatches`.
        end: Number of the first epoch that there is not.
    """

    def __init__(self, batches: ImageBatches, end: int):
        self._batches, self._end = batches, end
        self._next, self._rest = -1, iter(())

    def __call__(self, epoch: int) -> Iterator:
        if epoch != self._next:
            self._rest = iter(self._batches.epochs(self._end - epoch, start=epoch))
        self._next = epoch + 1
        return islice(self._rest, self._batches.steps)
