"""Fills the template of the report from what a run has recorded."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import jinja2
import numpy as np

from keras_cnn.arguments import join_some
from pipelines.evaluation.single_label import Evaluation
from pipelines.names import printable
from pipelines.report import pictures
from pipelines.report.findings import shown
from pipelines.training.divergence import Restart
from pipelines.training.task import measure

FOLDER = Path(__file__).parent
MOST_LEFT_OUT = 200
MOST_IN_TABLE = 40
MOST_CONFUSED = 30


def write_report(run: Path, evaluation, catalog, preprocessing, sheet=None) -> None:
    """Write `run/report.html` from the records in `run` and the test scores.

    Args:
        run: The folder with settings.json, metrics.json and history.csv.
        evaluation: `Evaluation` or `MultiLabelEvaluation` of the test split.
        catalog: The `Catalog` with the paths of its images.
        preprocessing: How the network saw them.
        sheet: A picture of how training images were varied, `(height, width, 3)` uint8, or None.
    """
    rows = catalog.used("test")
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in catalog.paths])
    with open(run / "history.csv", newline="") as file:
        history = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    left_out = [(path, reason) for path, reason in zip(catalog.paths, catalog.reasons, strict=True) if reason]
    mistakes = [
        {
            "picture": pictures.thumbnail(catalog.paths[rows[position]], preprocessing),
            "path": os.path.relpath(catalog.paths[rows[position]], root),
            "truth": evaluation.truth(position),
            "predicted": evaluation.classes[number],
            "probability": float(evaluation.scores[position, number]),
        }
        for position, number in evaluation.worst_mistakes()
    ]
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    restarts = metrics.get("restarts", ())
    chosen_by = measure(metrics["validation"][metrics["kept"]])
    page = _page(
        "template.html",
        metrics=metrics,
        measure=chosen_by,
        findings=shown(metrics["findings"], root),
        settings=json.loads((run / "settings.json").read_text(encoding="utf-8")),
        sheet=None if sheet is None else pictures.jpeg(sheet),
        curves=pictures.curves(history, chosen_by, tuple(one["epoch"] for one in restarts)) if history else None,
        restarts=[Restart(**one).to_text() for one in restarts],
        **_confusions(evaluation),
        mistakes=mistakes,
        wrong=evaluation.wrong,
        left_out=left_out[:MOST_LEFT_OUT],
        title=run_title(catalog),
    )
    (run / "report.html").write_text(page, encoding="utf-8")


def doctor_page(found, root) -> str:
    """A page with what `pipelines.commands.doctor.checked` gives; paths are told from the folder `root`."""
    return _page("doctor.html", found=found, findings=shown(found["findings"], root), title=os.path.basename(root))


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
    """What is taken for what: the matrix or, of many classes, its largest entries. With several labels nothing is."""
    if not isinstance(evaluation, Evaluation):
        return {"confusion": None, "confused": None}
    small = len(evaluation.classes) <= MOST_IN_TABLE
    return {"confusion": _confusion(evaluation) if small else None, "confused": _most_confused(evaluation)}


def _confusion(evaluation):
    """Rows of the confusion matrix: the class, and for each prediction the count and its share of the row."""
    matrix = evaluation.confusion()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    rows = zip(evaluation.classes, matrix.tolist(), shares.tolist(), strict=True)
    return [(name, list(zip(counts, row, strict=True))) for name, counts, row in rows]


def _most_confused(evaluation):
    """The most frequent confusions: truth, prediction, how often."""
    matrix = evaluation.confusion()
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:MOST_CONFUSED]
    pairs = [divmod(int(position), len(matrix)) for position in order]
    names = evaluation.classes
    return [(names[row], names[column], int(matrix[row, column])) for row, column in pairs if matrix[row, column]]


def run_title(catalog) -> str:
    """The classes in a few words: all names, or the first ones and how many more."""
    return join_some(catalog.classes, 8)
