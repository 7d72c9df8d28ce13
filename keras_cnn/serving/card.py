"""What travels inside a version for people and programs: the labels, a line each, and the model card."""

from __future__ import annotations

import json
import math
import platform
from pathlib import Path

import keras

from keras_cnn import arguments, fetching
from keras_cnn.version import __version__

LABELS = Path("assets") / "labels.txt"
CARD = Path("assets") / "model_card.json"


def describe(labels, preprocessing, precision: str, temperature: float, metadata: dict | None) -> dict:
    """The model card: plain values.

    Raises:
        ValueError: If the temperature is no positive number, or `metadata` cannot be written as JSON.
    """
    if isinstance(temperature, bool) or not (isinstance(temperature, (int, float)) and 0 < temperature < math.inf):
        raise ValueError(arguments.message("export", "temperature", "a positive number", temperature))
    try:
        training = json.loads(json.dumps(metadata or {}, allow_nan=False))
    except (TypeError, ValueError):
        expected = "a dict of texts, numbers, lists and dicts, as JSON has them"
        raise ValueError(arguments.message("export", "metadata", expected, metadata)) from None
    return {
        "labels": len(labels),
        "preprocessing": preprocessing.to_dict(),
        "precision": precision,
        "temperature": temperature,
        "training": training,
        "versions": versions(),
    }


def versions() -> dict:
    """What a model was made with: name -> version."""
    import tensorflow as tf  # here, since all of the library is imported where Keras runs on JAX

    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "keras-cnn": __version__,
    }


def write(path: Path, labels, about: dict) -> None:
    """Put the labels and the card `about` into the SavedModel at `path`."""
    (path / LABELS).parent.mkdir(exist_ok=True)
    (path / LABELS).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    (path / CARD).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def digests(path: Path) -> dict:
    """The SHA-256 of the files that hold the network of a SavedModel, by their names in it."""
    files = [path / "saved_model.pb", *sorted((path / "variables").glob("*"))]
    return {str(file.relative_to(path)): fetching.digest(file) for file in files}


def read(path: Path) -> dict:
    """The card of the SavedModel at `path`; empty if it has none that can be read."""
    try:
        found = json.loads((path / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
