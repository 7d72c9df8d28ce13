"""How good an exported version is on labelled images, as a server runs it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from keras_cnn.arguments import join_some
from pipelines.catalog import Catalog
from pipelines.catalog.kinds import is_companion
from pipelines.errors import InputError
from pipelines.evaluation import prediction
from pipelines.evaluation.multi_label import MultiLabelEvaluation
from pipelines.evaluation.single_label import SingleLabelEvaluation
from pipelines.evaluation.training_images import SPLITS, find_training_images

Evaluation = SingleLabelEvaluation | MultiLabelEvaluation


@dataclass(frozen=True)
class ServedModelEvaluation:
    """The result of `evaluate_version`.

    Attributes:
        evaluation: On all readable images.
        excluded: Path -> reason of the files that are not images, without tables and notes.
        unreadable: Paths of the images that the version cannot read; they are not counted.
        seen_in_training: Which of the images the version was trained on: "images", a dict of split -> paths, and
            "accuracy_on_unseen", None if it was trained on all of them. None if its run is not next to it.
    """

    evaluation: Evaluation
    excluded: dict[str, str]
    unreadable: list[str]
    seen_in_training: dict | None

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return {
            **self.evaluation.metrics(),
            "images": len(self.evaluation.targets),
            "unreadable": self.unreadable,
            "excluded": self.excluded,
            "seen_in_training": self.seen_in_training,
            "by_class": self.evaluation.by_class(),
        }


def evaluate_version(saved_model: str | os.PathLike, catalog: Catalog, trust: bool = False) -> ServedModelEvaluation:
    """Evaluate an exported version on the official test split of a catalog or, without official splits, on all images.

    Args:
        saved_model: As in `pipelines.evaluation.prediction.predict`.
        catalog: Labelled images; multi-label if the version is. It need not have every class of the version.
        trust: As in `pipelines.evaluation.prediction.predict`.

    Raises:
        InputError: If only one of version and catalog is multi-label, the version does not know a label, or no image can be
            read.
    """
    signature, names = prediction.load_signature(saved_model, trust), prediction.class_names(saved_model)
    multi_label = prediction.is_multi_label(saved_model)
    _check_kind_of_labels(catalog, multi_label)
    indices = catalog.included("test") if len(catalog.included("test")) else catalog.included()
    targets = _targets(catalog, indices, names)
    training_images = find_training_images(prediction.find_version(saved_model))
    probabilities, readable, splits = [], [], []
    for start in range(0, len(indices), prediction.BATCH_SIZE):
        paths = [catalog.paths[index] for index in indices[start : start + prediction.BATCH_SIZE]]
        contents = tf.constant([prediction.read_bytes(path) for path in paths])
        outputs = signature(image_bytes=contents)
        splits += training_images.splits_of(paths, contents) if training_images else []
        probabilities.append(outputs["all_probabilities"].numpy())
        readable.append(outputs["labels"].numpy()[:, 0] != b"")
    is_readable = np.concatenate(readable) if len(indices) else np.zeros(0, bool)
    if not is_readable.any():
        raise InputError(f"There must be images to evaluate. Received: {len(indices)} files, and none can be read.")
    kind = MultiLabelEvaluation if multi_label else SingleLabelEvaluation
    evaluation = kind(np.concatenate(probabilities)[is_readable], targets[is_readable], names)
    paths = [catalog.paths[index] for index in indices[is_readable]]
    return ServedModelEvaluation(
        evaluation,
        _excluded(catalog),
        [catalog.paths[index] for index in indices[~is_readable]],
        _seen_in_training(evaluation, paths, np.array(splits)[is_readable]) if training_images else None,
    )


def _check_kind_of_labels(catalog: Catalog, multi_label: bool) -> None:
    if catalog.multi_label == multi_label:
        return
    if multi_label:
        raise InputError(
            "The SavedModel is multi-label. Received data with one label per image. Pass --label for each column of 0 and 1."
        )
    raise InputError(
        "The SavedModel predicts one label per image. Received data with several labels. Pass --label for one label column."
    )


def _targets(catalog: Catalog, indices: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """As `Catalog.targets`, but with the class numbers of the version."""
    numbers = {name: number for number, name in enumerate(names)}
    labels = [label if isinstance(label, tuple) else (label,) for label in (catalog.labels[index] for index in indices)]
    for index, own in zip(indices, labels, strict=True):
        unknown = [name for name in own if name not in numbers]
        if unknown:
            raise InputError(
                f"The labels must be classes of the SavedModel: {join_some(names, 10)}. Received: {unknown[0]!r} for "
                f"{catalog.paths[index]}. Rename or remove it."
            )
    if catalog.multi_label:
        return np.array([[name in own for name in names] for own in labels], int)
    return np.array([numbers[name] for (name,) in labels])


def _excluded(catalog: Catalog) -> dict[str, str]:
    """Path -> reason of the files that are not images, without tables and notes."""
    reasons = zip(catalog.paths, catalog.exclusion_reasons, strict=True)
    return {path: reason for path, reason in reasons if reason and not is_companion(reason)}


def _seen_in_training(evaluation: Evaluation, paths: Sequence[str], splits: np.ndarray) -> dict[str, Any]:
    """Which of the images the version was trained on, and its accuracy on the others."""
    images = {split: [path for path, own in zip(paths, splits, strict=True) if own == split] for split in SPLITS}
    unseen = splits == ""
    rest = replace(evaluation, probabilities=evaluation.probabilities[unseen], targets=evaluation.targets[unseen])
    return {"images": images, "accuracy_on_unseen": rest.accuracy if unseen.any() else None}
