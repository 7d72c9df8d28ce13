"""Labels for new images from an exported version, with TensorFlow alone."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_cnn.serving import VerificationError, model_card
from keras_cnn.serving.layout import highest_version
from keras_cnn.serving.verification import require_harmless
from pipelines.catalog import folders
from pipelines.errors import InputError
from pipelines.evaluation.multi_label import DECISION

BATCH_SIZE = 32
SURE, UNSURE, UNREADABLE = "sure", "unsure", "unreadable"


@dataclass(frozen=True)
class Prediction:
    """The answer for one image file.

    Attributes:
        path: As given.
        status: "sure", "unsure" below the asked-for probability, "unreadable" if the file is no image. Not part of the
            label, since a class may have such a name.
        labels: What the image is said to be: the most probable class or, of a version for several labels an image, all
            classes of probability 1/2 or more, best first. None if unreadable.
        label: The most probable class; "" if unreadable.
        probability: Of the most probable class; 0 if unreadable.
        best: The most probable classes with their probabilities, best first; empty if unreadable.
    """

    path: str
    status: str
    labels: tuple[str, ...]
    label: str
    probability: float
    best: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return {
            **asdict(self),
            "labels": list(self.labels),
            "best": [{"label": label, "probability": probability} for label, probability in self.best],
        }


def predict(saved_model, images, reject: float = 0.0, trust: bool = False):
    """Yield a `Prediction` for each image file, in order.

    Args:
        saved_model: A version that a job exported, or the folder of versions, of which the highest is taken.
        images: Paths of image files and of folders, whose images at any depth are taken in order of name. A warning says which
            other files are there, apart from hidden ones, tables and notes.
        reject: Below this probability an answer is "unsure".
        trust: Whether to load a SavedModel whose operations may do more than compute, such as reading files.

    Raises:
        InputError: If the SavedModel or an image path does not exist, or a folder holds no image.
    """
    serve = load(saved_model, trust)
    names = class_names(saved_model) if is_multi_label(saved_model) else None
    paths, others = find_images(images)
    if others:
        warnings.warn(skipped(others), stacklevel=2)
    for start in range(0, len(paths), BATCH_SIZE):
        batch = paths[start : start + BATCH_SIZE]
        answer = serve(image_bytes=tf.constant([content(path) for path in batch]))
        answer = {name: tensor.numpy() for name, tensor in answer.items()}
        for row, path in enumerate(batch):
            labels = [label.decode() for label in answer["labels"][row]]
            best = tuple(zip(labels, answer["probabilities"][row].tolist(), strict=True))
            given = best[0][:1] if names is None else _given(names, answer["all_probabilities"][row])
            yield _prediction(path, best, given, reject)


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


def class_names(saved_model) -> tuple[str, ...]:
    """The names of the classes of a version, in the order of its probabilities."""
    return tuple((version_in(saved_model) / model_card.LABELS).read_text(encoding="utf-8").splitlines())


def is_multi_label(saved_model) -> bool:
    """Whether a version gives each class a probability of its own, as its card says."""
    return model_card.read(version_in(saved_model)).get("multi_label", False)


def find_images(images) -> tuple[list[str], Counter]:
    """Files as they are, and the images in folders at any depth, each path once; how many others are there, by ending."""
    paths, others = [], Counter()
    for given in map(Path, images):
        if given.is_dir():
            found, more = folders.images(given)
            others += more
            if not found:
                received = _by_ending(more) or "no other file either"
                raise InputError(f"The folder {given} holds no image. Received: {received}. Name another one.")
            paths += found
        elif given.is_file():
            paths.append(str(given))
        else:
            raise InputError(
                f"Each image must be a file or a folder of images. Received: {given}, which does not exist."
            )
    return list(dict.fromkeys(paths)), others


def skipped(others: Counter) -> str:
    """One sentence about the files that `find_images` counts."""
    words = "file is" if others.total() == 1 else "files are"
    return f"{others.total():,} {words} skipped, not images by their first bytes: {_by_ending(others)}."


def _by_ending(counts):
    return ", ".join(f"{count:,} {ending or 'without an ending'}" for ending, count in counts.most_common())


def content(path) -> bytes:
    """The bytes of a file; none if it cannot be read, and then it is unreadable as an image too."""
    try:
        return Path(os.fspath(path)).read_bytes()
    except OSError:
        return b""


def _given(names, scores):
    return tuple(names[number] for number in np.argsort(-scores, kind="stable") if scores[number] >= DECISION)


def _prediction(path, best, labels, reject):
    label, probability = best[0]
    if not label:
        return Prediction(path, UNREADABLE, (), "", 0.0, ())
    return Prediction(path, SURE if probability >= reject else UNSURE, labels, label, probability, best)
