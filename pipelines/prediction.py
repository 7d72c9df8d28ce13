"""Labels for new images from an exported version, with TensorFlow alone."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import tensorflow as tf

from keras_cnn.images import SUFFIXES
from keras_cnn.serving import VerificationError
from keras_cnn.serving.folder import highest_version
from keras_cnn.serving.verification import require_harmless
from pipelines.catalog import folders
from pipelines.errors import InputError

BATCH_SIZE = 32
SURE, UNSURE, UNREADABLE = "sure", "unsure", "unreadable"


@dataclass(frozen=True)
class Prediction:
    """The answer for one image file.

    Attributes:
        path: As given.
        status: "sure", "unsure" below the asked-for probability, "unreadable" if the file is no image. Not part of the
            label, since a class may have such a name.
        label: The most probable class; "" if unreadable.
        probability: Of the most probable class; 0 if unreadable.
        best: The most probable classes with their probabilities, best first; empty if unreadable.
    """

    path: str
    status: str
    label: str
    probability: float
    best: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return {
            **asdict(self),
            "best": [{"label": label, "probability": probability} for label, probability in self.best],
        }


def predict(saved_model, images, reject: float = 0.0, trust: bool = False):
    """Yield a `Prediction` for each image file, in order.

    Args:
        saved_model: A version that a job exported, or the folder of versions, of which the highest is taken.
        images: Paths of image files and of folders, whose images at any depth are taken in order of name.
        reject: Below this probability an answer is "unsure".
        trust: Whether to load a SavedModel whose operations may do more than compute, such as reading files.

    Raises:
        InputError: If the SavedModel or an image path does not exist, or a folder holds no image.
    """
    serve = load(saved_model, trust)
    paths = find_images(images)
    for start in range(0, len(paths), BATCH_SIZE):
        batch = paths[start : start + BATCH_SIZE]
        answer = serve(image_bytes=tf.constant([content(path) for path in batch]))
        rows = zip(batch, answer["labels"].numpy(), answer["probabilities"].numpy(), strict=True)
        yield from (_prediction(path, labels, probabilities, reject) for path, labels, probabilities in rows)


def load(saved_model, trust: bool = False):
    """The default signature of an exported version: call it with `image_bytes=`. As to `trust`, see `predict`."""
    path = version_in(saved_model)
    try:
        require_harmless(path, trust)
        signatures = tf.saved_model.load(str(path)).signatures
    except VerificationError as error:
        raise InputError(str(error)) from None
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise InputError(f"The SavedModel {path} cannot be loaded: {str(error).splitlines()[0]}") from None
    serve = signatures.get("serving_default")
    if serve is None or not {"labels", "probabilities"} <= set(serve.structured_outputs):
        raise InputError(
            f"The SavedModel must be one that `keras-cnn fit` exported. Received: {path}, with other outputs."
        )
    # A signature dies with the object it came from, so the one keeps the other.
    serve.loaded_from = signatures
    return serve


def version_in(saved_model) -> Path:
    """The path of a version: as given, or the highest in a folder of versions."""
    path = Path(saved_model)
    if not (path / "saved_model.pb").is_file() and highest_version(path):
        path = path / str(highest_version(path))
    if not (path / "saved_model.pb").is_file():
        raise InputError(f"The SavedModel must be a folder that `keras-cnn fit` exported. Received: {saved_model}.")
    return path


def find_images(images) -> list[str]:
    """Files as they are, and the images in folders at any depth; each path once."""
    paths = []
    for given in map(Path, images):
        if given.is_dir():
            found = folders.images(given)
            if not found:
                raise InputError(f"The folder {given} holds no image ({', '.join(SUFFIXES)}). Name another one.")
            paths += found
        elif given.is_file():
            paths.append(str(given))
        else:
            raise InputError(
                f"Each image must be a file or a folder of images. Received: {given}, which does not exist."
            )
    return list(dict.fromkeys(paths))


def content(path) -> bytes:
    """The bytes of a file; none if it cannot be read, and then it is unreadable as an image too."""
    try:
        return Path(os.fspath(path)).read_bytes()
    except OSError:
        return b""


def _prediction(path, labels, probabilities, reject):
    best = tuple((label.decode(), float(probability)) for label, probability in zip(labels, probabilities, strict=True))
    if not best[0][0]:
        return Prediction(path, UNREADABLE, "", 0.0, ())
    label, probability = best[0]
    return Prediction(path, SURE if probability >= reject else UNSURE, label, probability, best)
