"""A small classifier, image files, and a quick verification, for the tests of exported versions."""

import contextlib
import io
import json

import keras
import numpy as np
from PIL import Image

import keras_cnn as kc
from keras_cnn.serving import examples, fresh_process, verification

LABELS = ["hen", "crème brûlée", "寿司", "d", "e", "f"]
RECORD = kc.Preprocessing((16, 24), "fit")


def make_model(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((16, 24, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, use_bias=False)(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    model = keras.Model(inputs, kc.heads.classification(len(LABELS), dropout=0.5)(x))
    random = np.random.default_rng(seed)
    for weight in model.weights:  # fresh ones, zeros and ones, would be folded away
        if len(weight.shape) == 1:
            weight.assign(random.uniform(0.2, 1.2, weight.shape))
    return model


def encoded_image(kind, mode="RGB", seed=0):
    channels = {"RGB": 3, "RGBA": 4, "L": 1}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 7, channels), "uint8").repeat(9, 0).repeat(9, 1)
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, kind)
    return buffer.getvalue()


def in_this_process(path, recorded):
    """What verification does in a fresh process, without the seconds in which that imports TensorFlow."""
    more, said = path.parent / "more.tfrecord", io.StringIO()
    examples.write(more, recorded)
    with contextlib.redirect_stdout(said):
        fresh_process.main(str(path), str(path / verification.GOLDEN_EXAMPLES), str(more))
    more.unlink()
    return json.loads(said.getvalue().splitlines()[-1])
