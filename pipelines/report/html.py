"""Fills the templates of the pages from what a run, or the doctor, has recorded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from keras_cnn.arguments import join_some
from keras_cnn.preprocessing import Preprocessing
from pipelines.catalog.csv_and_parquet import LABEL_PREFIX, saved_rows
from pipelines.errors import InputError
from pipelines.names import printable
from pipelines.report import embedded_images
from pipelines.report.findings import for_page
from pipelines.runs import records
from pipelines.training.decisions import Decision, format_choice
from pipelines.training.divergence import Restart
from pipelines.training.task import TASKS

FOLDER = Path(__file__).parent
MOST_EXCLUDED = 200
MOST_IN_TABLE = 40
MOST_CONFUSED = 30
MOST_NAMES = 8


def write_report(run: Path) -> Path:
    """Write `run/report.html` from the records in the folder `run`; returns its path.

    Images that are no longer where they were are missing from the page.

    Raises:
        InputError: If the folder holds no records of a run.
    """
    try:
        page = _run_page(run)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"RUN must be a run that `keras-cnn fit` wrote, such as saved_models/photos/runs/1. Received: {run} ({error})."
        ) from None
    report = run / "report.html"
    report.write_text(page, encoding="utf-8")
    return report


def _run_page(run):
    metrics, settings, history = records.read_metrics(run), records.read_settings(run), records.read_history(run)
    rows = saved_rows(run / "catalog.csv")
    root = os.path.commonpath([os.path.dirname(row["path"]) for row in rows])
    task, preview = TASKS[metrics["task"]], run / records.PREVIEW
    evaluation = _evaluation(run, metrics, rows)
    tested = [row["path"] for row in rows if row["split"] == "test" and not row["reason"]]
    excluded = [(row["path"], row["reason"]) for row in rows if row["reason"]]
    restarts = [Restart(**each) for each in metrics["restarts"]]
    diverged = tuple(restart.epoch for restart in restarts)
    return _page(
        "template.html",
        metrics=metrics,
        task=task,
        findings=for_page(metrics["findings"], root),
        settings=settings,
        preview=embedded_images.jpeg(np.asarray(Image.open(preview))) if preview.is_file() else None,
        curves=embedded_images.curves(history, task.primary_metric, diverged) if history else None,
        restarts=[restart.to_text() for restart in restarts],
        crossed=metrics["judged"]["cross_validation"],
        decisions=[
            (found.name.replace("_", " "), format_choice(found.value), found.reason)
            for found in (Decision(**each) for each in metrics["decisions"])
        ],
        **(_confusions(evaluation) if task.has_confusion_matrix else {"confusion": None, "confused": None}),
        errors=_errors(evaluation, tested, root, Preprocessing.from_dict(settings["preprocessing"])),
        num_errors=evaluation.num_errors,
        excluded=excluded[:MOST_EXCLUDED],
        title=run_title(metrics["classes"]),
    )


def _evaluation(run, metrics, rows):
    """The evaluation of the test images, from their labels and recorded probabilities."""
    classes = metrics["classes"]
    tested = [row for row in rows if row["split"] == "test" and not row["reason"]]
    if LABEL_PREFIX + classes[0] in rows[0]:
        targets = np.array([[int(row[LABEL_PREFIX + name]) for name in classes] for row in tested])
    else:
        targets = np.array([classes.index(row["label"]) for row in tested])
    return TASKS[metrics["task"]].evaluation(np.load(run / records.PROBABILITIES), targets, tuple(classes))


def _errors(evaluation, paths, root, preprocessing) -> list[dict[str, Any]]:
    """The most confident errors."""
    return [
        {
            "image": embedded_images.thumbnail(paths[index], preprocessing),
            "path": os.path.relpath(paths[index], root),
            "true": evaluation.true_label(index),
            "predicted": evaluation.classes[number],
            "probability": float(evaluation.probabilities[index, number]),
        }
        for index, number in evaluation.most_confident_errors()
    ]


def doctor_page(found: dict[str, Any], root: str) -> str:
    """A page with what `pipelines.doctor.check.check_data` gives; paths are relative to the folder `root`."""
    return _page("doctor.html", found=found, findings=for_page(found["findings"], root), title=os.path.basename(root))


def _page(template, **values):
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if isinstance(value, str) else value,
    )
    return environment.get_template(template).render(**values)


def _confusions(evaluation):
    """The confusion matrix or, of many classes, its largest entries."""
    small = len(evaluation.classes) <= MOST_IN_TABLE
    return {"confusion": _confusion(evaluation) if small else None, "confused": _most_confused(evaluation)}


def _confusion(evaluation):
    """Rows of the confusion matrix: the class, and for each prediction the count and its share of the row."""
    matrix = evaluation.confusion_matrix()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    rows = zip(evaluation.classes, matrix.tolist(), shares.tolist(), strict=True)
    return [(name, list(zip(counts, row, strict=True))) for name, counts, row in rows]


def _most_confused(evaluation):
    """The most frequent confusions: truth, prediction, how often."""
    matrix = evaluation.confusion_matrix()
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:MOST_CONFUSED]
    pairs = [divmod(int(position), len(matrix)) for position in order]
    names = evaluation.classes
    return [(names[row], names[column], int(matrix[row, column])) for row, column in pairs if matrix[row, column]]


def run_title(classes: Sequence[str]) -> str:
    """The classes in a few words: all names, or the first ones and how many more."""
    return join_some(classes, MOST_NAMES)
