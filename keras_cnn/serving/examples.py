"""Image files with the probabilities that are expected for them.

Golden examples are stored in every version, so that `verify` can compare it later. A caller may give more examples to `export`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from keras_cnn import images
from keras_cnn.images.resizing import center_crop_side
from keras_cnn.preprocessing import Preprocessing
from keras_cnn.serving import verification
from keras_cnn.serving.network import Network, as_input, split_at_pooling
from keras_cnn.serving.served_outputs import to_probabilities

ORIENTATION = 0x0112  # the Exif field
LARGE = (2000, 3000)


@dataclass(frozen=True)
class Example:
    """An image file and the outputs of a network for it.

    Attributes:
        content: The bytes of the file.
        probabilities: `(classes,)`; zeros if the file is not an image.
        features: The output of the last pooling layer; None if it is not to be compared.
        size: `(height, width)` of the network's input if the centre of the image, a PNG, is exactly that input, so that all
            signatures must agree on it; else empty.
        readable: Whether the file is an image.
    """

    content: bytes
    probabilities: np.ndarray
    features: np.ndarray | None = None
    size: tuple[int, ...] = ()
    readable: bool = True


class Reference:
    """The outputs of a network for image files.

    Args:
        probabilities: Function of images `(batch, height, width, 3)` that gives `(batch, classes)`.
        features: Function of images that gives `(batch, channels)`; or None.
        classes: The number of classes.
        preprocessing: How an image file becomes such an image.
    """

    def __init__(self, probabilities: Callable, features: Callable | None, classes: int, preprocessing: Preprocessing):
        self.preprocessing, self.classes = preprocessing, classes
        self._probabilities, self._features = probabilities, features

    def record(self, content: bytes, exact: bool = False) -> Example:
        """The example of a file. If it is exact, with its features, if the network has any, and with the input size."""
        was_enabled = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(False)  # a GPU would round float32 to 10 bits
        try:
            batch = images.prepare(content, self.preprocessing)[None]
            features = np.ravel(self._features(batch)) if exact and self._features else None
            size = self.preprocessing.size if exact else ()
            return Example(content, self._probabilities(batch)[0].numpy(), features, size)
        except tf.errors.InvalidArgumentError:
            return Example(content, np.zeros(self.classes, "float32"), readable=False)
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(was_enabled)


def keras_reference(model: keras.Model, preprocessing: Preprocessing, *ending: Any) -> Reference:
    """The outputs of the Keras model itself: nothing folded, its weights variables.

    Args:
        model: From `classifier.require_classifier`.
        preprocessing: As in `keras_cnn.export`.
        *ending: Temperature, activation and binary, as `Network` takes them.
    """
    body, pool, _ = split_at_pooling(model)

    def probabilities(batch: tf.Tensor) -> tf.Tensor:
        return to_probabilities(tf.cast(model(as_input(model, batch), training=False), tf.float32), *ending)

    def features(batch: tf.Tensor) -> tf.Tensor:
        return tf.cast(pool(body(as_input(model, batch), training=False)), tf.float32)

    spec = tf.TensorSpec((None, *preprocessing.size, 3), tf.float32)
    traced = tf.function(probabilities, input_signature=[spec], autograph=False)
    classes = traced.get_concrete_function().structured_outputs.shape[-1]
    return Reference(traced, features if pool is not None else None, classes, preprocessing)


def served_reference(network: Network, preprocessing: Preprocessing) -> Reference:
    """The outputs of the network as it is served, in its precision."""
    features = (lambda batch: network.run(batch)["features"]) if network.has_features else None
    classes = network.probabilities.shape[-1]
    return Reference(lambda batch: network.run(batch)["probabilities"], features, classes, preprocessing)


def golden_examples(reference: Reference) -> list[Example]:
    """The examples that every version stores: synthetic images of all kinds, the first of which is exact."""
    preprocessing = reference.preprocessing
    sides = (_side_before_crop(side, preprocessing.crop_fraction) for side in preprocessing.size)
    exact = reference.record(_encode(_random_patches(*sides), "PNG"), exact=True)
    return [exact, *(reference.record(content) for content in _synthetic_files())]


def record_again(examples: Sequence[Example], reference: Reference, limit: float | None = None) -> list[Example]:
    """The same images with the outputs of another network.

    A version in another precision than float32 stores its own probabilities. On synthetic images these differ a lot: a flat
    colour is rounded alike at all places, which no mean over them evens out. So the caller's examples judge the precision.

    Args:
        examples: With the probabilities of the model.
        reference: Of the network as it is served.
        limit: For the median difference of the probabilities, where the caller gives no examples to judge by; None for none.

    Raises:
        VerificationError: If the median difference is larger.
    """
    again = [reference.record(one.content, bool(one.size)) for one in examples]
    differences = [
        np.abs(one.probabilities - other.probabilities).max()
        for one, other in zip(examples, again, strict=True)
        if one.readable
    ]
    if limit is not None and not np.median(differences) <= limit:
        raise verification.VerificationError(
            f"export: the network must give the probabilities of the model within {limit}, in the median of "
            f"{len(differences)} synthetic images. Received: {np.median(differences):.3g}. Use another precision, or give "
            "`examples` to judge by."
        )
    return again


def read_files(examples: Iterable[str | Path | bytes]) -> tuple[list[str], list[bytes]]:
    """Names and contents of the examples that `export` takes: paths, or contents without a name."""
    names, contents = [], []
    for index, one in enumerate(examples):
        names.append(f"example {index}" if isinstance(one, bytes) else str(one))
        contents.append(one if isinstance(one, bytes) else Path(one).read_bytes())
    return names, contents


def write(file: Path, examples: Iterable[Example]) -> None:
    """Write examples as TFRecords of `tf.train.Example`."""
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for one in examples:
            feature = {
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[one.content])),
                "probabilities": _float_feature(one.probabilities),
                "features": _float_feature([] if one.features is None else one.features),
                "size": tf.train.Feature(int64_list=tf.train.Int64List(value=one.size)),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def _float_feature(values: Iterable[float]) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _side_before_crop(wanted: int, fraction: float) -> int:
    """The side of an image whose centre crop has exactly the wanted side, so that nothing is resized."""
    likely = range(round(wanted / fraction), round((wanted + 4) / fraction) + 1)
    candidates = (*likely, *range(wanted, likely[0]))
    return next(side for side in candidates if center_crop_side(side, fraction) == wanted)


def _synthetic_files() -> Iterator[bytes]:
    """Colour and gray as JPEG, transparency, a rotated photo, a large one, a single pixel, and two files that are no images."""
    colour = _random_patches(240, 320)
    with_alpha = np.concatenate([colour, colour[::-1, :, :1]], -1)
    rotated = Image.Exif()
    rotated[ORIENTATION] = 6  # the top of the scene is at the right of the image
    yield _encode(colour, "JPEG")
    yield _encode(colour[..., 0], "JPEG")
    yield _encode(with_alpha, "PNG")
    yield _encode(colour, "JPEG", exif=rotated)
    yield _encode(_random_patches(*LARGE), "JPEG", quality=50)
    yield _encode(colour[:1, :1], "PNG")
    yield _encode(with_alpha, "PNG")[:200]
    yield b"no image"


def _random_patches(height: int, width: int) -> np.ndarray:
    """Sixteen by sixteen patches of random colours."""
    patches = np.random.default_rng(0).integers(0, 256, (16, 16, 3), "uint8")
    return patches[np.arange(height) * 16 // height][:, np.arange(width) * 16 // width]


def _encode(pixels: np.ndarray, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()
