"""What a version says of itself to people and programs: the labels, one per line, and the model card."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_cnn import arguments, downloads
from keras_cnn.preprocessing import Preprocessing
from keras_cnn.version import __version__

LABELS = Path("assets") / "labels.txt"
CARD = Path("assets") / "model_card.json"


def describe(
    labels: Sequence[str], preprocessing: Preprocessing, precision: str, temperature: float, metadata: dict | None
) -> dict[str, Any]:
    """The model card, as plain values.

    Raises:
        ValueError: If the temperature is not a positive number, or `metadata` cannot be written as JSON.
    """
    if isinstance(temperature, bool) or not (isinstance(temperature, (int, float)) and 0 < temperature < math.inf):
        raise ValueError(arguments.message("export", "temperature", "a positive number", temperature))
    try:
        metadata = json.loads(json.dumps(metadata or {}, allow_nan=False))
    except (TypeError, ValueError):
        expected = "a dict of texts, numbers, lists and dicts, as JSON has them"
        raise ValueError(arguments.message("export", "metadata", expected, metadata)) from None
    return {
        "num_classes": len(labels),
        "preprocessing": preprocessing.to_dict(),
        "precision": precision,
        "temperature": temperature,
        "metadata": metadata,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions of what a model was made with, by name."""
    import tensorflow as tf  # not at the top: `import keras_cnn` also works where Keras runs on JAX

    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "keras-cnn": __version__,
    }


def write(path: Path, labels: Sequence[str], card: dict[str, Any]) -> None:
    """Write the labels and the card into the SavedModel at `path`."""
    (path / LABELS).parent.mkdir(exist_ok=True)
    (path / LABELS).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    (path / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def digests(path: Path) -> dict[str, str]:
    """The SHA-256 of each file that holds the network of a SavedModel, by its path in the SavedModel."""
    files = [path / "saved_model.pb", *sorted((path / "variables").glob("*"))]
    return {str(file.relative_to(path)): downloads.file_checksum(file) for file in files}


def read(path: Path) -> dict[str, Any]:
    """The card of the SavedModel at `path`; empty if it has none that can be read."""
    try:
        card = json.loads((path / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}
