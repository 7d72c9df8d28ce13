"""What a person reads at the end of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from keras_cnn.arguments import join_some
from pipelines.names import printable
from pipelines.training.decisions import Decision
from pipelines.training.divergence import Restart
from pipelines.training.task import TASKS

if TYPE_CHECKING:
    from pipelines.fine_tuning import Result

FEW = 20
MOST_NAMES = 10
WIDTH = len("For TF Serving")
NAMES = {"linear_probe": "linear probe", "fine_tuned": "fine-tuned network"}


def print_summary(result: Result) -> None:
    """Print classes, images, seconds per phase, how good the model is on the test images, and where the files are.

    Args:
        result: `pipelines.Result`.
    """
    metrics = result.metrics
    images, validation, metric = metrics["images"], metrics["validation"], metrics["primary_metric"]
    excluded = f", {metrics['excluded']} excluded (see catalog.csv)" if metrics["excluded"] else ""
    compared = ", ".join(f"{NAMES[name]} {_percent(score[metric])}" for name, score in validation.items())
    judged = metrics["judged"]
    judge = f"cross-validation of {judged['images']} images, " if judged["cross_validation"] else ""
    also = " (then also for training)" if judged["trained_on"] else ""
    chosen = [Decision(**decision).to_text() for decision in metrics["decisions"] if decision["name"] != "selected"]
    rows = {
        "Classes": f"{len(metrics['classes'])}: {_shortened(metrics['classes'])}",
        "Images": f"{images['train']} training, {images['validation']} validation{also}, {images['test']} test{excluded}",
        "Validation": f"{judge}{metric.replace('_', ' ')}: {compared}; selected: {NAMES[metrics['selected']]}",
        **({"Decided": escape("\n".join(map(printable, chosen)))} if chosen else {}),
        "Test": _test(result),
        "Seconds": ", ".join(f"{name.lower()} {seconds:.0f}" for name, seconds in metrics["seconds"].items()),
    }
    if "accuracy_without_leaks" in metrics:
        rows["Without leaks"] = (
            f"{_percent(metrics['accuracy_without_leaks'])} of test images that are in no other split"
        )
    if metrics["restarts"]:
        rows["Diverged"] = "\n".join(Restart(**restart).to_text() for restart in metrics["restarts"])
    faults = [
        f"{found['level']}: {printable(found['text'])}" for found in metrics["findings"] if found["level"] != "note"
    ]
    if faults:
        rows["Data"] = escape("\n".join(faults))
    if judged["images"] < FEW:
        rows["Warning"] = f"only {judged['images']} images decide which model is better: that is uncertain"
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, text in rows.items():
        table.add_row(f"{name:<{WIDTH}}", text)
    Console().print(table)
    # Not in the table, which would break long paths over lines.
    for name, path in (("For TF Serving", result.export), ("Report", result.report), ("Records", result.run)):
        print(f"{name:<{WIDTH}}  {printable(path)}")


def _test(result):
    metrics, task = result.metrics, TASKS[result.metrics["task"]]
    low, high = (100 * bound for bound in result.interval)
    main = f"[bold]{_percent(metrics[task.primary_metric])}[/bold] {task.primary_metric.replace('_', ' ')}"
    interval = f"(95 % interval {low:.1f} to {high:.1f} %)"
    if task.primary_metric == "accuracy":
        return f"{main} {interval}; balanced accuracy {_percent(metrics['balanced_accuracy'])}"
    return f"{main}; {_percent(result.accuracy)} of the images {task.correct} {interval}"


def _percent(share):
    return "-" if share is None else f"{100 * share:.1f} %"


def _shortened(names):
    return escape(printable(join_some(names, MOST_NAMES)))
