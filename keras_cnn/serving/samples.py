"""Images with the scores that are expected for them: those stored in a version, and the examples that a caller gives."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_cnn import images
from keras_cnn.images.resizing import middle
from keras_cnn.serving.network import as_input, calibrated, parts

ORIENTATION = 0x0112  # the EXIF field
HUGE = (2000, 3000)


@dataclass(frozen=True)
class Sample:
    """An image file and what the Keras model says of it.

    Attributes:
        content: Of the file.
        scores: `(classes,)`; zeros if it is no image.
        target: The number of its right class, -1 if that is not known.
        features: What the last pooling layer gives, where that is to be compared.
        size: `(height, width)` of the network's input, if the middle of the picture, a PNG, is exactly that input: all
            signatures must agree on it.
    """

    content: bytes
    scores: np.ndarray
    target: int = -1
    features: np.ndarray | None = None
    size: tuple[int, ...] = ()


class Reference:
    """The Keras model as it is, to compare with: nothing folded, its weights variables.

    Args:
        model: As in `keras_cnn.export`, with `preprocessing`.
        temperature: The logits are divided by it.
    """

    def __init__(self, model, preprocessing, temperature: float = 1.0):
        self.preprocessing, self._model = preprocessing, model
        spec = tf.TensorSpec((None, *preprocessing.size, 3), tf.float32)
        self._scores = tf.function(
            lambda batch: calibrated(tf.cast(model(as_input(model, batch), training=False), tf.float32), temperature),
            input_signature=[spec],
            autograph=False,
        )

    def sample(self, content: bytes, target: int = -1, exact: bool = False) -> Sample:
        """The file with its scores; with its features, if the model has them, and the size of the input if it is exact."""
        coarse = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(False)  # a GPU would round float32 to 10 bits
        try:
            batch = images.prepare(content, self.preprocessing)[None]
            scores = self._scores(batch)[0].numpy()
            more = (self._features(batch), self.preprocessing.size) if exact else ()
            return Sample(content, scores, target, *more)
        except tf.errors.InvalidArgumentError:
            return Sample(content, np.zeros(self._model.output_shape[-1], "float32"), target)
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(coarse)

    def _features(self, batch):
        body, pool, _ = parts(self._model)
        if pool is None:
            return None
        return np.ravel(tf.cast(pool(body(as_input(self._model, batch), training=False)), tf.float32))


def stored(reference: Reference) -> list[Sample]:
    """The samples that every version holds: made-up pictures of all kinds."""
    preprocessing = reference.preprocessing
    sides = (_side(side, preprocessing.crop_fraction) for side in preprocessing.size)
    exact = reference.sample(_encoded(_picture(*sides), "PNG"), exact=True)
    return [exact, *(reference.sample(content) for content in _made_up())]


def _side(wanted, crop):
    """The side of a picture whose middle, the share `crop` of it, is as long as wanted, so that nothing is resized."""
    likely = range(round(wanted / crop), round((wanted + 4) / crop) + 1)
    return next(side for side in (*likely, *range(wanted, likely[0])) if middle(side, crop) == wanted)


def write(file: Path, samples) -> None:
    """Write samples as TFRecords of `tf.train.Example`."""
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for sample in samples:
            feature = {
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[sample.content])),
                "scores": _numbers(sample.scores),
                "features": _numbers([] if sample.features is None else sample.features),
                "size": tf.train.Feature(int64_list=tf.train.Int64List(value=sample.size)),
                "target": tf.train.Feature(int64_list=tf.train.Int64List(value=[sample.target])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def _numbers(values):
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _made_up():
    """Colour and gray as JPEG, transparency, a turned photo, a large one, a single pixel, and two that are no image."""
    turned = Image.Exif()
    turned[ORIENTATION] = 6  # the top of the scene is at the right of the picture
    colour = _picture(240, 320)
    alpha = np.concatenate([colour, colour[::-1, :, :1]], -1)
    return [
        _encoded(colour, "JPEG"),
        _encoded(colour[..., 0], "JPEG"),
        _encoded(alpha, "PNG"),
        _encoded(colour, "JPEG", exif=turned),
        _encoded(_picture(*HUGE), "JPEG", quality=50),
        _encoded(colour[:1, :1], "PNG"),
        _encoded(alpha, "PNG")[:200],
        b"no image",
    ]


def _picture(height, width):
    """Sixteen by sixteen patches of random colours."""
    patches = np.random.default_rng(0).integers(0, 256, (16, 16, 3), "uint8")
    return patches[np.arange(height) * 16 // height][:, np.arange(width) * 16 // width]


def _encoded(pixels, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()
