"""What a person reads at the end of a job."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from keras_cnn.arguments import join_some
from pipelines.names import printable
from pipelines.training.divergence import Restart
from pipelines.training.task import measure

FEW = 20
WIDTH = len("For TF Serving")


def print_summary(result) -> None:
    """Print classes, images, seconds of each step, how good it is on the test images, and where the files are.

    Args:
        result: `pipelines.Result`.
    """
    metrics = result.metrics
    images, validation = metrics["images"], metrics["validation"]
    low, high = (100 * bound for bound in result.interval)
    left_out = f", {metrics['left_out']} left out (see catalog.csv)" if metrics["left_out"] else ""
    compared = ", ".join(f"{name} {100 * score[measure(score)]:.1f} %" for name, score in validation.items())
    several = " mean average precision" if "mean_average_precision" in metrics else ""
    # A solved head learns from them once all is decided.
    choosing = "to choose" if metrics["kept"] == "fine-tuned" else "to choose and then learn from"
    rows = {
        "Classes": f"{len(metrics['classes'])}: {_shortened(metrics['classes'])}",
        "Images": f"{images['train']} to train, {images['validation']} {choosing}, {images['test']} to test{left_out}",
        "Validation": f"{compared}{several}: kept the {metrics['kept']}",
        **_tested(metrics, f"{100 * result.accuracy:.1f} %", f"(95 % interval {low:.1f} to {high:.1f} %)"),
        "Seconds": ", ".join(f"{name.lower()} {seconds:.0f}" for name, seconds in metrics["seconds"].items()),
    }
    if "accuracy_without_leaks" in metrics:
        rows["Without leaks"] = (
            f"{100 * metrics['accuracy_without_leaks']:.1f} % of test images that are in no other split"
        )
    if metrics.get("restarts"):
        rows["Diverged"] = "\n".join(Restart(**restart).to_text() for restart in metrics["restarts"])
    faults = [
        f"{found['level']}: {printable(found['text'])}" for found in metrics["findings"] if found["level"] != "note"
    ]
    if faults:
        rows["Data"] = escape("\n".join(faults))
    if images["validation"] < FEW:
        rows["Warning"] = f"only {images['validation']} validation images: which network is better is uncertain"
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, text in rows.items():
        table.add_row(f"{name:<{WIDTH}}", text)
    Console().print(table)
    # Not in the table, which would break long paths over lines.
    for name, path in (("For TF Serving", result.export), ("Report", result.report), ("Records", result.run)):
        print(f"{name:<{WIDTH}}  {printable(path)}")


def _tested(metrics, accuracy, interval):
    if "mean_average_precision" not in metrics:
        return {"Test accuracy": f"[bold]{accuracy}[/bold] {interval}"}
    return {
        "Test": f"[bold]{100 * metrics['mean_average_precision']:.1f} %[/bold] mean average precision",
        "Labels right": f"every one on {accuracy} of the test images {interval}",
    }


def _shortened(names, most=10):
    return escape(printable(join_some(names, most)))
