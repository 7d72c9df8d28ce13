"""`keras-cnn evaluate`: how good an exported version is on labelled images."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from pipelines.commands import data_options
from pipelines.names import printable


def add_to(commands: Any) -> None:
    """Add the subcommand to the subparsers of `argparse`."""
    evaluate = commands.add_parser(
        "evaluate",
        help="measure accuracy, precision and recall of an exported version on labelled images",
        description="Measures accuracy, precision and recall of an exported version on labelled images: on the test split if "
        "DATA have official splits, otherwise on all images.",
    )
    evaluate.add_argument(
        "saved_model",
        metavar="SAVED_MODEL",
        help="an exported version, such as saved_models/photos/1, or the folder of versions: then the highest version",
    )
    data_options.add_to(evaluate)
    evaluate.add_argument(
        "--trust",
        action="store_true",
        help="load the SavedModel even if it may do more than compute, such as read files (default: refuse it)",
    )
    evaluate.add_argument("--json", action="store_true", help="print the result as JSON")
    evaluate.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> None:
    from pipelines.evaluation.served_model import evaluate_version

    found = evaluate_version(options.saved_model, data_options.read(options), options.trust).to_dict()
    for path, reason in list(found["excluded"].items())[:1]:
        count = len(found["excluded"])
        text = f"{count:,} {'file is' if count == 1 else 'files are'} excluded, such as {path}: {reason}"
        print(f"keras-cnn evaluate: {printable(text)}", file=sys.stderr)
    seen = found["seen_in_training"]
    if seen and any(seen["images"].values()):
        print(f"keras-cnn evaluate: {_format_warning(seen, found['images'])}", file=sys.stderr)
    print(json.dumps(found) if options.json else _format_text(found))


def _format_warning(seen: dict[str, Any], images: int) -> str:
    counts = {split: len(paths) for split, paths in seen["images"].items()}
    total = sum(counts.values())
    by_split = ", ".join(f"{count} {split}" for split, count in counts.items())
    text = f"this version was trained on {total} of the {images} images ({by_split})"
    if seen["accuracy_on_unseen"] is None:
        return f"{text}, so the accuracy says nothing about new images."
    return f"{text}; accuracy on the other {images - total}: {100 * seen['accuracy_on_unseen']:.1f} %."


def _format_text(found: dict[str, Any]) -> str:
    low, high = found["interval_95"]
    multi_label = "mean_average_precision" in found
    lines = [f"mean average precision {_format_percent(found['mean_average_precision'])}"] if multi_label else []
    lines.append(
        f"{'all labels correct' if multi_label else 'accuracy'} {100 * found['accuracy']:.1f} % of {found['images']} images "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
        + ("" if multi_label else f", balanced accuracy {100 * found['balanced_accuracy']:.1f} %")
    )
    if found["unreadable"]:
        lines.append(f"{len(found['unreadable'])} files cannot be read, such as {printable(found['unreadable'][0])}")
    lines += [
        f"{row['images']:7} images  recall {_format_percent(row['recall'])}  precision {_format_percent(row['precision'])}  "
        + (f"average precision {_format_percent(row['average_precision'])}  " if multi_label else "")
        + printable(row["class"])
        for row in found["by_class"]
        if row["images"] or row["precision"] is not None
    ]
    return "\n".join(lines)


def _format_percent(share: float | None) -> str:
    return "      -" if share is None else f"{100 * share:5.1f} %"
