"""Labels for new images from an exported version, with TensorFlow alone."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_cnn.serving import VerificationError, model_card
from keras_cnn.serving.layout import highest_version
from keras_cnn.serving.verification import require_harmless
from pipelines.catalog import folders
from pipelines.errors import InputError
from pipelines.evaluation.multi_label import THRESHOLD

BATCH_SIZE = 32
CONFIDENT, UNCERTAIN, UNREADABLE = "confident", "uncertain", "unreadable"


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image file.

    Attributes:
        path: As given.
        status: "confident"; "uncertain" if the probability is below `min_confidence`; "unreadable" if the file is not an image.
            It is not part of the label, since a class may have such a name.
        labels: The predicted labels: the most probable class or, of a multi-label version, all classes with a probability of
            1/2 or more, the most probable first. Empty if unreadable.
        label: The most probable class; "" if unreadable.
        probability: Of the most probable class; 0 if unreadable.
        top_predictions: The most probable classes with their probabilities, the most probable first; empty if unreadable.
    """

    path: str
    status: str
    labels: tuple[str, ...]
    label: str
    probability: float
    top_predictions: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        top = [{"label": label, "probability": probability} for label, probability in self.top_predictions]
        return {**asdict(self), "labels": list(self.labels), "top_predictions": top}


def predict(
    saved_model: str | os.PathLike,
    images: Iterable[str | os.PathLike],
    min_confidence: float = 0.0,
    trust: bool = False,
) -> Iterator[Prediction]:
    """Yield a `Prediction` for each image file, in order.

    Args:
        saved_model: A version that a job exported, or the folder of versions: then the highest version is used.
        images: Paths of image files, and of folders, whose images at any depth are used in the order of their names. A warning
            names the other files in the folders, except hidden files, tables and notes.
        min_confidence: A prediction whose probability is lower is "uncertain".
        trust: Whether to load a SavedModel whose operations may do more than compute, such as read files.

    Raises:
        InputError: If the SavedModel or an image path does not exist, or a folder contains no image.
    """
    signature = load_signature(saved_model, trust)
    multi_label = is_multi_label(saved_model)
    names = class_names(saved_model) if multi_label else ()
    paths, others = find_images(images)
    if others:
        warnings.warn(format_skipped(others), stacklevel=2)
    for start in range(0, len(paths), BATCH_SIZE):
        batch = paths[start : start + BATCH_SIZE]
        outputs = signature(image_bytes=tf.constant([read_bytes(path) for path in batch]))
        outputs = {name: tensor.numpy() for name, tensor in outputs.items()}
        for i, path in enumerate(batch):
            top_labels = [label.decode() for label in outputs["labels"][i]]
            top = tuple(zip(top_labels, outputs["probabilities"][i].tolist(), strict=True))
            labels = _above_threshold(names, outputs["all_probabilities"][i]) if multi_label else top[0][:1]
            yield _prediction(path, labels, top, min_confidence)


def load_signature(saved_model: str | os.PathLike, trust: bool = False) -> Any:
    """The default signature of an exported version: call it with `image_bytes=`. `trust` is as in `predict`."""
    path = find_version(saved_model)
    try:
        require_harmless(path, trust)
        signatures = tf.saved_model.load(str(path)).signatures
    except VerificationError as error:
        raise InputError(str(error)) from None
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise InputError(f"The SavedModel {path} cannot be loaded: {str(error).splitlines()[0]}") from None
    signature = signatures.get("serving_default")
    if signature is None or not {"labels", "probabilities"} <= set(signature.structured_outputs):
        raise InputError(
            f"The SavedModel must be one that `keras-cnn fit` exported. Received: {path}, with other outputs."
        )
    # A signature stops working when the object that it comes from is deleted, so it has to refer to that object.
    signature.loaded_from = signatures
    return signature


def find_version(saved_model: str | os.PathLike) -> Path:
    """The path of a version: as given, or the highest version in a folder of versions."""
    path = Path(saved_model)
    if not (path / "saved_model.pb").is_file() and highest_version(path):
        path = path / str(highest_version(path))
    if not (path / "saved_model.pb").is_file():
        raise InputError(f"The SavedModel must be a folder that `keras-cnn fit` exported. Received: {saved_model}.")
    return path


def class_names(saved_model: str | os.PathLike) -> tuple[str, ...]:
    """The names of the classes of a version, in the order of its outputs."""
    return tuple((find_version(saved_model) / model_card.LABELS).read_text(encoding="utf-8").splitlines())


def is_multi_label(saved_model: str | os.PathLike) -> bool:
    """Whether an image can have several labels, according to the model card of the version."""
    return model_card.read(find_version(saved_model)).get("multi_label", False)


def find_images(images: Iterable[str | os.PathLike]) -> tuple[list[str], Counter]:
    """The paths of image files, each once: files as given, and images in folders at any depth. And the number of other files
    in the folders, per suffix."""
    paths: list[str] = []
    others: Counter[str] = Counter()
    for given in map(Path, images):
        if given.is_dir():
            found, more = folders.images(given)
            others += more
            if not found:
                received = _format_suffixes(more) or "no other file either"
                raise InputError(f"The folder {given} contains no image. Received: {received}. Choose another folder.")
            paths += found
        elif given.is_file():
            paths.append(str(given))
        else:
            raise InputError(
                f"Each image must be a file or a folder of images. Received: {given}, which does not exist."
            )
    return list(dict.fromkeys(paths)), others


def format_skipped(others: Counter) -> str:
    """A sentence about the other files that `find_images` counts."""
    words = "file is" if others.total() == 1 else "files are"
    return f"{others.total():,} {words} skipped, not images by their first bytes: {_format_suffixes(others)}."


def _format_suffixes(counts: Counter) -> str:
    return ", ".join(f"{count:,} {suffix or 'without a suffix'}" for suffix, count in counts.most_common())


def read_bytes(path: str | os.PathLike) -> bytes:
    """The bytes of a file; no bytes if it cannot be read, so that it counts as unreadable."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def _above_threshold(names: Sequence[str], probabilities: np.ndarray) -> tuple[str, ...]:
    order = np.argsort(-probabilities, kind="stable")
    return tuple(names[number] for number in order if probabilities[number] >= THRESHOLD)


def _prediction(
    path: str, labels: tuple[str, ...], top_predictions: tuple[tuple[str, float], ...], min_confidence: float
) -> Prediction:
    label, probability = top_predictions[0]
    if not label:
        return Prediction(path, UNREADABLE, (), "", 0.0, ())
    status = CONFIDENT if probability >= min_confidence else UNCERTAIN
    return Prediction(path, status, labels, label, probability, top_predictions)
