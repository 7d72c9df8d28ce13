"""What a run was and gave, as files that other programs read."""

from __future__ import annotations

import csv
import json
import math

from keras_cnn import scratch
from keras_cnn.serving import model_card
from pipelines.names import to_json


def metrics(catalog, evaluation, validation, selected, temperature, proof, seconds) -> dict:
    """All figures of a run, as plain values.

    Args:
        catalog: The `Catalog` with splits and reasons.
        evaluation: `Evaluation` or `MultiLabelEvaluation` of the test split.
        validation: Scores on the validation split, of the solved head and of the fine-tuned network.
        selected: The name of the one that was exported.
        temperature: That the exported network divides its logits by.
        proof: `Verification` of the exported version.
        seconds: Dict of step -> seconds.
    """
    return {
        **evaluation.figures(),
        "classes": list(catalog.classes),
        "images": {split: len(catalog.used(split)) for split in ("train", "validation", "test")},
        "left_out": sum(bool(reason) for reason in catalog.reasons),
        "kept": selected,
        "validation": {name: _finite(score) for name, score in validation.items()},
        "temperature": temperature,
        "by_class": evaluation.by_class(),
        "verification": {"images": proof.images, "largest_difference": proof.largest_difference},
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }


def write(run, learning, figures) -> None:
    """Write settings.json, metrics.json, catalog.csv, history.csv and model.keras into the folder `run`.

    Args:
        run: A path.
        learning: `pipelines.training.learning.Learning`, once it is done.
        figures: From `metrics`.
    """
    network, history = learning.network, learning.history
    about = {
        **learning.chosen.to_dict(),
        "backbone": network.model.name,
        "weights": str(network.source),
        "preprocessing": network.preprocessing.to_dict(),
        "versions": model_card.versions(),
    }
    for name, content in (("settings.json", about), ("metrics.json", figures)):
        (run / name).write_text(to_json(content) + "\n", encoding="utf-8")
    learning.catalog.to_csv(run / "catalog.csv", learning.images.fingerprints(len(learning.catalog.paths)))
    with open(run / "history.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", *(history[0] if history else ())])
        writer.writeheader()
        writer.writerows({"epoch": number, **row} for number, row in enumerate(history, 1))
    with scratch.temporary_files_in(run.parent):  # where what a kill leaves is removed
        learning.model.save(run / "model.keras")


def _finite(score):
    """None where training diverged before it had a loss: JSON has no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in score.items()}


def read_metrics(run) -> dict:
    """The figures of a run that `write` has written."""
    return json.loads((run / "metrics.json").read_text(encoding="utf-8"))
