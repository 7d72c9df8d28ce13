"""`keras-cnn doctor`: finds problems of a data set before a network is trained on it."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from pipelines.commands import data_options
from pipelines.errors import InputError
from pipelines.names import printable

DEFAULT_SIZE = 224  # the input of most networks
MAX_SHOWN = 3  # sets of files per finding, and files per set


def add_to(commands: Any) -> None:
    """Add the subcommand to the subparsers of `argparse`."""
    doctor = commands.add_parser(
        "doctor",
        help="find problems of a data set: broken files, duplicates, leaks between splits, wrong labels",
        description="Checks a data set before training: broken files, duplicates, leaks between splits, conflicting labels, "
        "classes with few images. Every file is read once. `fit` runs the same checks and adds the findings to its report.",
    )
    data_options.add_to(doctor)
    doctor.add_argument(
        "--size",
        type=int,
        default=DEFAULT_SIZE,
        metavar="PIXELS",
        help="height and width of the network's input; smaller images are reported (default: %(default)s)",
    )
    doctor.add_argument("--report", metavar="FILE", help="write the findings with their images to FILE, an HTML page")
    doctor.add_argument("--quiet", action="store_true", help="show no progress bar")
    doctor.add_argument("--json", action="store_true", help="print all findings as JSON")
    doctor.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> None:
    from pipelines.doctor.check import check_data
    from pipelines.report import doctor_page

    if options.size < 1:
        raise InputError(f"--size must be a number of pixels from 1. Received: {options.size}.")
    report = options.report and os.path.abspath(options.report)
    if report and (os.path.isdir(report) or not os.path.isdir(os.path.dirname(report))):
        raise InputError(f"--report must name a file in a folder that exists. Received: {options.report}.")
    catalog = data_options.read(options)
    found = check_data(catalog, options.size, not options.quiet)
    if report:
        page = doctor_page(found, os.path.abspath(catalog.root))
        try:
            Path(report).write_text(page, encoding="utf-8")
        except OSError as error:
            raise InputError(f"--report cannot be written. Received: {options.report}: {error.strerror}.") from None
    print(json.dumps(found) if options.json else _format_text(found, catalog.root))


def _format_text(found: dict[str, Any], root: str) -> str:
    lines = [
        f"Classes: {found['classes']:,}. Images: {found['images']:,}. Files excluded: {found['excluded']:,}. "
        f"Checked in {found['seconds']:.0f} s, {found['images_per_second']:.0f} images per second."
    ]
    for finding in found["findings"]:
        lines.append(f"{finding['level']:<8} {printable(finding['text'])}")
        for files in finding["files"][:MAX_SHOWN]:
            names = [printable(os.path.relpath(path, root or os.curdir)) for path in files[:MAX_SHOWN]]
            names += [f"and {len(files) - MAX_SHOWN:,} more"] if len(files) > MAX_SHOWN else []
            lines.append(9 * " " + "  ".join(names))
        if finding["count"] > MAX_SHOWN:
            lines.append(9 * " " + f"... and {finding['count'] - MAX_SHOWN:,} more (--json lists all)")
    return "\n".join(lines if found["findings"] else [*lines, "No problems found."])
