"""Writes a version of a model beside the older ones: built apart, proved, then renamed into place.

TF Serving loads the highest folder whose name is an integer, so a folder gets such a name only when it is complete.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import keras

from keras_cnn import arguments
from keras_cnn.preprocessing import Preprocessing

STAGING = ".export-"


def export(model: keras.Model, directory, labels, preprocessing: Preprocessing, version: int | None = None) -> Path:
    """Write `directory/VERSION`, a SavedModel that takes image files and gives labels and probabilities.

    The signature `serving_default` takes `image_bytes`, a string tensor `[batch]` of JPEG, PNG, GIF, BMP or WebP files, and
    gives `labels` and `probabilities` `[batch, k]`, best first (k is 5, or the number of classes if that is smaller), and
    `scores` `[batch, classes]`. A file that is no image gets the label "" and probability 0.

    The SavedModel is loaded in a fresh process with TensorFlow alone, and must give the scores of `model` within 1e-4.

    Args:
        model: Images `(batch, height, width, 3)` RGB 0..255 -> probabilities `(batch, classes)`.
        directory: The folder of all versions; made if it is missing.
        labels: The names of the classes, in the order of the outputs.
        preprocessing: How an image file becomes the input of `model`.
        version: A positive integer; None for one more than the highest.

    Returns:
        The path of the version.

    Raises:
        ValueError: If the labels do not fit the outputs.
        FileExistsError: If the version is there already.
        VerificationError: If the SavedModel does not give the scores of `model`; then nothing is left behind.
    """
    directory = Path(directory)
    version = highest_version(directory) + 1 if version is None else arguments.integer("export", "version", version)
    target = directory / str(version)
    if target.exists():
        raise FileExistsError(f"export: `version` must be new. Received: version={version}, and {target} exists.")
    _check_labels(model, labels)
    directory.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=directory))
    try:
        write(model, staging / "version", labels, preprocessing)
        os.rename(staging / "version", target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def write(model: keras.Model, path: Path, labels, preprocessing: Preprocessing, examples=()):
    """Write the SavedModel at `path`, a folder that does not exist yet, and prove it; returns the `Verification`.

    Args:
        model: As in `export`; so are `labels` and `preprocessing`.
        path: Where; not seen by TF Serving unless its name is an integer.
        examples: Contents of image files to compare on, besides those that are stored with the model.
    """
    import tensorflow as tf

    from keras_cnn.serving import signatures, verification

    _check_labels(model, labels)
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder) / "labels.txt"
        names.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        module = signatures.image_classifier(model, tf.saved_model.Asset(str(names)), labels, preprocessing)
        tf.saved_model.save(module, str(path), signatures={"serving_default": module.classify_bytes})
    verification.record(model, preprocessing, path)
    return verification.compare(path, verification.expected_scores(model, preprocessing, examples))


def highest_version(directory: Path) -> int:
    """The highest integer that names an entry of `directory`, 0 if there is none."""
    names = [entry.name for entry in directory.iterdir()] if directory.is_dir() else []
    return max((int(name) for name in names if name.isascii() and name.isdigit()), default=0)


def _check_labels(model, labels):
    classes = model.output_shape[-1]
    if len(labels) != classes or len(set(labels)) != len(labels):
        raise ValueError(
            arguments.message("export", "labels", f"{classes} different names, one for each output", list(labels))
        )
    if any(not isinstance(label, str) or len(label.splitlines()) != 1 for label in labels):
        raise ValueError(arguments.message("export", "labels", "texts of one line that are not empty", list(labels)))
