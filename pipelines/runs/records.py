"""The records of a run, as files that other programs read. The report is made from them alone."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from keras_cnn import scratch
from keras_cnn.serving import model_card
from keras_cnn.serving.verification import Verification
from pipelines.names import to_json
from pipelines.training.classifier import Classifier
from pipelines.training.decisions import Decision
from pipelines.training.task import Evaluation

PROBABILITIES = "test_probabilities.npy"
PREVIEW = "augmentation.png"


def metrics(
    classifier: Classifier,
    evaluation: Evaluation,
    temperature: float,
    proof: Verification,
    seconds: dict[str, float],
    decisions: Sequence[Decision] = (),
) -> dict[str, Any]:
    """All figures of a run, as plain values.

    Args:
        classifier: The trained network.
        evaluation: Of the test split, as the task evaluates it.
        temperature: That the exported network divides its logits by.
        proof: `Verification` of the exported version.
        seconds: Phase -> seconds.
        decisions: What the job has decided before it trained `classifier`.
    """
    data, task = classifier.head.data, classifier.head.task
    restarts = classifier.fitted.restarts if classifier.fitted else ()
    return {
        "task": task.name,
        "primary_metric": task.primary_metric,
        **evaluation.metrics(),
        "classes": list(data.catalog.classes),
        "images": {split: len(data.indices(split)) for split in ("train", "validation", "test")},
        "excluded": sum(bool(reason) for reason in data.catalog.exclusion_reasons),
        "selected": classifier.selected,
        "judged": {
            "images": len(classifier.head.truth),
            "cross_validation": classifier.head.fold_of is not None,
            "trained_on": classifier.has_learned_from_validation,
        },
        "validation": {name: _finite(score) for name, score in classifier.validation.items()},
        "temperature": temperature,
        "by_class": evaluation.by_class(),
        "verification": {"images": proof.images, "largest_difference": proof.largest_difference},
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "restarts": [restart.to_dict() for restart in restarts],
        "decisions": [decision.to_dict() for decision in [*decisions, *classifier.decisions]],
    }


def write(run: Path, classifier: Classifier, evaluation: Evaluation, figures: dict[str, Any]) -> None:
    """Write the records of a run into the folder `run`.

    These are settings.json, metrics.json, catalog.csv, history.csv, model.keras, and test_probabilities.npy: float32
    `(test images, classes)`, in the order of catalog.csv. augmentation.png shows how training images were augmented, if
    they were.

    Args:
        run: The folder.
        classifier: The trained network.
        evaluation: Of the test split.
        figures: From `metrics`.
    """
    head, fitted = classifier.head, classifier.fitted
    history = fitted.history if fitted else []
    preview = fitted.preview if fitted else head.preview
    race = fitted.race if fitted else None
    about = {
        **head.settings.to_dict(),
        **({"learning_rate": race.learning_rate} if race else {}),
        "backbone": head.backbone.model.name,
        "weights": str(head.backbone.source),
        "preprocessing": head.backbone.preprocessing.to_dict(),
        "versions": model_card.versions(),
    }
    for name, content in (("settings.json", about), ("metrics.json", figures)):
        (run / name).write_text(to_json(content) + "\n", encoding="utf-8")
    head.data.catalog.to_csv(run / "catalog.csv", head.data.images.fingerprints(len(head.data.catalog.paths)))
    with open(run / "history.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", *(history[0] if history else ())])
        writer.writeheader()
        writer.writerows({"epoch": number, **row} for number, row in enumerate(history, 1))
    np.save(run / PROBABILITIES, evaluation.probabilities.astype("float32"))
    if preview is not None:
        Image.fromarray(preview).save(run / PREVIEW)
    save_model(run, head.model)


def save_model(run: Path, model: keras.Model) -> None:
    """Write model.keras into the folder `run`. The temporary files of Keras go next to it: what a kill leaves is removed."""
    with scratch.temporary_files_in(run.parent):
        model.save(run / "model.keras")


def _finite(score):
    """None where training diverged before it had a loss: JSON has no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in score.items()}


def read_metrics(run: Path) -> dict[str, Any]:
    """The figures of a run that `write` has written."""
    return json.loads((run / "metrics.json").read_text(encoding="utf-8"))


def read_settings(run: Path) -> dict[str, Any]:
    """The settings of a run."""
    return json.loads((run / "settings.json").read_text(encoding="utf-8"))


def read_history(run: Path) -> list[dict[str, float]]:
    """A dict per epoch."""
    with open(run / "history.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
