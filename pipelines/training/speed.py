"""How long this machine takes for a network: measured in a few seconds, before a job plans its own time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_cnn import Backbone, keras_internals
from keras_cnn.builder import attach
from keras_cnn.training import mixed_precision
from pipelines import augment, device
from pipelines.datasets.image_batches import ImageBatches
from pipelines.settings import Settings
from pipelines.training.feature_extractor import inference, partition, precision_for
from pipelines.training.fitting import first_trainable, set_trainable, trained_part

# Of each measurement; the fastest counts: the first one also allocates memory, which may take longer than the work.
RUNS = 2
LONG = 10.0  # seconds; a measurement that takes longer is made once
EXAMPLES = 16  # images per measurement, if a batch has as many


@dataclass(frozen=True)
class StepSpeed:
    """What training takes.

    Attributes:
        image: Seconds per image and step.
        build: Seconds to trace the step.
        frozen: Share of the network's time that goes into the part before it, whose features are cached.
    """

    image: float
    build: float
    frozen: float


@dataclass(frozen=True)
class Speed:
    """What a network takes on this machine.

    Attributes:
        features: Seconds per image of the whole network, in the precision of cached features.
        exact: The same in float32, as the network is validated, tested and exported.
        build: Seconds to rewrite the whole network for many images, if they are many, and to trace it.
        trace: Seconds to trace it as it is.
        augmentation: Seconds per image to augment.
        steps: What is trained -> its `StepSpeed`.
    """

    features: float
    exact: float
    build: float
    trace: float
    augmentation: float
    steps: dict[str, StepSpeed]


def measure_speed(
    backbone: Backbone,
    head: Callable[[Any], Any],
    images: np.ndarray,
    candidates: Sequence[Settings],
    training_images: int,
) -> Speed:
    """Measure each part of the work of some candidates for a job. The network is as before afterwards.

    Args:
        backbone: The network.
        head: The head, a function of features, as `pipelines.training.task.Task.head` gives.
        images: Some images of the network's size, 0..255, `(images, height, width, 3)`.
        candidates: The settings; measured is each different value of `train`.
        training_images: Number of images in the training split.
    """
    examples = min(EXAMPLES, *(settings.batch_size for settings in candidates))
    images = np.resize(images, (examples, *images.shape[1:])).astype("uint8")
    model = attach(backbone.model, head)
    whole = partition(model, "pool").frozen
    precision = precision_for(training_images)
    run, build = _timed(lambda: inference(whole, training_images, precision))
    features = _fastest(lambda: run(images), examples)
    plain, trace = _timed(lambda: inference(whole))
    exact = _fastest(lambda: plain(images), examples)
    steps = {
        settings.train: _measure_step(model, exact, backbone, settings, images)
        for settings in {each.train: each for each in candidates if each.epochs}.values()
    }
    return Speed(features, exact, build, trace, _measure_augmentation(images), steps)


def _measure_step(model, exact, backbone, settings, images):
    """One step of training without its optimizer, whose few weights take little time; endless without enough memory."""
    parts = partition(model, settings.feature_layer)
    inputs, share = tf.cast(images, tf.float32), 1.0
    if not settings.trains_on_images:
        frozen = inference(parts.frozen)
        share = min(1.0, _fastest(lambda: frozen(images), len(images)) / exact)
        inputs = tf.cast(frozen(images), tf.float32)
    precision = mixed_precision(backbone.model) if settings.mixed_precision else nullcontext()
    with _flags_restored(model), precision:
        set_trainable(model, first_trainable(backbone, settings), settings)
        step, build = _timed(lambda: _trace(trained_part(model if settings.trains_on_images else parts.rest), inputs))
        try:
            return StepSpeed(_fastest(lambda: step(inputs)[0].numpy(), len(images)), build, share)
        except tf.errors.ResourceExhaustedError:
            return StepSpeed(math.inf, build, share)


def _trace(model, inputs):
    """A function that computes the gradients of some loss."""

    @tf.function(autograph=False, jit_compile=device.has_gpu())
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.math.log(tf.cast(model(x, training=True), tf.float32) + 1e-7))
        return tape.gradient(loss, [weight.value for weight in model.trainable_weights])

    return step.get_concrete_function(inputs)


def _measure_augmentation(images):
    """Per image; the images are as large as the network's input, those of a job a little larger."""
    light = augment.preset("light", horizontal_flip=True)
    stored = np.resize(images, (len(images), *light.stored_size(images.shape[1:3]), 3))
    targets = np.zeros(len(stored), int)
    batches = ImageBatches(stored, targets, images.shape[1:3], len(stored), classes=1, augmentation=light)
    iterator = iter(batches.epochs(RUNS + 2))
    return _fastest(lambda: next(iterator), len(images))


@contextmanager
def _flags_restored(model):
    layers = list(keras_internals.sublayers(model, include_self=False))
    flags = [layer.trainable for layer in layers]
    try:
        yield
    finally:
        for layer, flag in zip(layers, flags, strict=True):
            layer.trainable = flag


def _timed(function):
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def _fastest(function, images):
    """Seconds per image."""
    first = _timed(function)[1]
    times = [first, *(_timed(function)[1] for _ in range(RUNS - 1 if first < LONG else 0))]
    return min(times) / images
