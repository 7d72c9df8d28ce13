"""Images with the scores that are expected for them: those stored in a version, and the examples that a caller gives."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_cnn import images
from keras_cnn.images.resizing import center_crop_side
from keras_cnn.serving import verification
from keras_cnn.serving.network import Network, as_input, parts
from keras_cnn.serving.served_outputs import to_probabilities

ORIENTATION = 0x0112  # the EXIF field
HUGE = (2000, 3000)


@dataclass(frozen=True)
class Sample:
    """An image file and what a network says of it.

    Attributes:
        content: Of the file.
        scores: `(classes,)`; zeros if it is no image.
        features: What the last pooling layer gives, where that is to be compared.
        size: `(height, width)` of the network's input, if the middle of the picture, a PNG, is exactly that input: all
            signatures must agree on it.
        readable: Whether it is an image.
    """

    content: bytes
    scores: np.ndarray
    features: np.ndarray | None = None
    size: tuple[int, ...] = ()
    readable: bool = True


class Reference:
    """What a network says of image files.

    Args:
        scores: Function of images `(batch, height, width, 3)`: probabilities `(batch, classes)`.
        features: Function of images: `(batch, channels)`; or None.
        classes: Their number.
        preprocessing: How an image file becomes such an image.
    """

    def __init__(self, scores, features, classes: int, preprocessing):
        self.preprocessing, self.classes = preprocessing, classes
        self._scores, self._features = scores, features

    def sample(self, content: bytes, exact: bool = False) -> Sample:
        """The file with its scores; with its features, if there are any, and the size of the input if it is exact."""
        coarse = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(False)  # a GPU would round float32 to 10 bits
        try:
            batch = images.prepare(content, self.preprocessing)[None]
            features = np.ravel(self._features(batch)) if exact and self._features else None
            return Sample(content, self._scores(batch)[0].numpy(), features, self.preprocessing.size if exact else ())
        except tf.errors.InvalidArgumentError:
            return Sample(content, np.zeros(self.classes, "float32"), readable=False)
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(coarse)


def of_model(model, preprocessing, *ending) -> Reference:
    """The Keras model as it is, to compare with: nothing folded, its weights variables.

    Args:
        model: Of `classifier.require_classifier`.
        preprocessing: As in `keras_cnn.export`.
        *ending: As `Network` takes them: temperature, activation, binary.
    """
    body, pool, _ = parts(model)

    def scores(batch):
        return to_probabilities(tf.cast(model(as_input(model, batch), training=False), tf.float32), *ending)

    def features(batch):
        return tf.cast(pool(body(as_input(model, batch), training=False)), tf.float32)

    spec = tf.TensorSpec((None, *preprocessing.size, 3), tf.float32)
    traced = tf.function(scores, input_signature=[spec], autograph=False)
    classes = traced.get_concrete_function().structured_outputs.shape[-1]
    return Reference(traced, features if pool is not None else None, classes, preprocessing)


def of_network(network: Network, preprocessing) -> Reference:
    """The network as it is served, in its precision."""
    features = (lambda batch: network.run(batch)["features"]) if network.has_features else None
    return Reference(
        lambda batch: network.run(batch)["probabilities"], features, network.probabilities.shape[-1], preprocessing
    )


def stored(reference: Reference) -> list[Sample]:
    """The samples that every version holds: made-up pictures of all kinds."""
    preprocessing = reference.preprocessing
    sides = (_side(side, preprocessing.crop_fraction) for side in preprocessing.size)
    exact = reference.sample(_encoded(_picture(*sides), "PNG"), exact=True)
    return [exact, *(reference.sample(content) for content in _made_up())]


def again(stored, reference: Reference, limit: float | None = None) -> list[Sample]:
    """The same images with what another network says of them.

    A version in another precision than float32 has its own scores on record. It changes those of made-up images at will: of
    a flat colour it rounds all places alike, which no mean over them evens out. So examples judge it, not these.

    Args:
        stored: With the scores of the model.
        reference: Of the network as it is served.
        limit: For the median difference of their scores, where there are no examples to judge by; None for none.

    Raises:
        VerificationError: If they are further apart.
    """
    own = [reference.sample(one.content, bool(one.size)) for one in stored]
    differences = [
        np.abs(one.scores - other.scores).max() for one, other in zip(stored, own, strict=True) if one.readable
    ]
    if limit is not None and not np.median(differences) <= limit:
        raise verification.VerificationError(
            f"export: the network must give the scores of the model within {limit}, in the median of {len(differences)} "
            f"synthetic images. Received: {np.median(differences):.3g}. Use another precision, or give `examples` to judge by."
        )
    return own


def read(examples) -> tuple[list[str], list[bytes]]:
    """Names and contents of the examples that `export` takes: paths, or contents without a name."""
    names, contents = [], []
    for number, one in enumerate(examples):
        names.append(f"example {number}" if isinstance(one, bytes) else str(one))
        contents.append(one if isinstance(one, bytes) else Path(one).read_bytes())
    return names, contents


def _side(wanted, crop):
    """The side of a picture whose middle, the share `crop` of it, is as long as wanted, so that nothing is resized."""
    likely = range(round(wanted / crop), round((wanted + 4) / crop) + 1)
    return next(side for side in (*likely, *range(wanted, likely[0])) if center_crop_side(side, crop) == wanted)


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
