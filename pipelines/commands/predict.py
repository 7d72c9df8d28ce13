"""`keras-cnn predict`: label images with an exported version."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from contextlib import ExitStack, contextmanager
from typing import Any

from pipelines.commands import argument_types
from pipelines.errors import InputError
from pipelines.names import path_to_cell, printable, to_cell


def add_to(commands: Any) -> None:
    """Add the subcommand to the ones of `argparse`."""
    predict = commands.add_parser("predict", help="label images with an exported version")
    predict.add_argument(
        "saved_model",
        metavar="SAVED_MODEL",
        help="an exported version, such as saved_models/photos/1, or the folder of versions: then the highest version",
    )
    predict.add_argument("images", metavar="IMAGE", nargs="+", help="image files, or folders of them")
    predict.add_argument(
        "--min-confidence",
        type=argument_types.share,
        default=0.0,
        metavar="P",
        help='print "uncertain" instead of a label whose probability is below this (default: 0)',
    )
    predict.add_argument(
        "--trust",
        action="store_true",
        help="load the SavedModel even if it may do more than compute, such as read files (default: refuse it)",
    )
    predict.add_argument("--csv", metavar="FILE", help="write path, label, probability, status to a file")
    predict.add_argument("--json", action="store_true", help="print a JSON list with the best labels of each image")
    predict.set_defaults(run=_run)


def _run(options):
    from pipelines.evaluation.prediction import CONFIDENT, UNREADABLE, find_images, format_skipped, predict

    with _table(options.csv) as table:
        paths, others = find_images(options.images)
        if others:
            print(f"keras-cnn predict: {printable(format_skipped(others))}", file=sys.stderr)
        found = list(predict(options.saved_model, paths, options.min_confidence, options.trust))
        if table:
            table.writerow(["path", "label", "probability", "status"])
            table.writerows(
                [path_to_cell(one.path), to_cell(", ".join(one.labels)), f"{one.probability:.4f}", one.status]
                for one in found
            )
    if table:
        print(f"{printable(options.csv)}: {len(found)} rows", file=sys.stderr)
    if options.json:
        print(json.dumps([one.to_dict() for one in found]))
    elif not options.csv:
        shown = [(", ".join(one.labels) or "(none)") if one.status == CONFIDENT else one.status for one in found]
        shown = [printable(text) for text in shown]
        width = max(map(len, shown))
        for one, text in zip(found, shown, strict=True):
            print(f"{text:<{width}}  {one.probability:.3f}  {printable(one.path)}")
    unreadable = [one.path for one in found if one.status == UNREADABLE]
    if unreadable:
        raise InputError(f"{len(unreadable)} of {len(found)} files are no images, such as {unreadable[0]}.")


@contextmanager
def _table(name):
    """A writer for rows of CSV, opened before the work and put in place after it; None without a name."""
    if name is None:
        yield None
        return
    if os.path.isdir(name):
        raise InputError(f"--csv must name a file. Received: {name}, which is a folder.")
    from keras_cnn import durable

    with ExitStack() as stack:
        try:
            file = stack.enter_context(durable.atomic_write(name))
        except OSError as error:
            raise InputError(
                f"--csv must name a file that can be written. Received: {name}: {error.strerror}."
            ) from None
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
        yield csv.writer(text)
        text.detach()  # flushes it; `atomic_write` closes the file
