"""`keras-cnn doctor`: what is wrong with a data set, before anybody waits for a network to learn from it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from pipelines.commands import data_options
from pipelines.errors import InputError
from pipelines.names import printable

SIZE = 224  # of most networks
SEEN = 64  # pixels a side: enough to compare pictures, and JPEGs are decoded at an eighth
SHOWN = 3


def add_to(commands) -> None:
    """Add the subcommand to the ones of `argparse`."""
    doctor = commands.add_parser(
        "doctor",
        help="look for broken files, copies, leaks between splits and other faults of a data set",
        description="Reads every file once. `fit` does the same, and puts what it finds into its report.",
    )
    data_options.add_to(doctor)
    doctor.add_argument(
        "--size",
        type=int,
        default=SIZE,
        help="pixels, height and width that a network is to see (default: %(default)s)",
    )
    doctor.add_argument("--report", metavar="FILE", help="write a page (HTML) that shows the pictures")
    doctor.add_argument("--quiet", action="store_true", help="no progress bar")
    doctor.add_argument("--json", action="store_true", help="print all findings as JSON")
    doctor.set_defaults(run=_doctor)


def _doctor(options):
    from pipelines.report import doctor_page

    if options.size < 1:
        raise InputError(f"--size must be a number of pixels from 1. Received: {options.size}.")
    report = options.report and os.path.abspath(options.report)
    if report and (os.path.isdir(report) or not os.path.isdir(os.path.dirname(report))):
        raise InputError(f"--report must name a file in a folder that exists. Received: {options.report}.")
    catalog = data_options.read(options)
    found = checked(catalog, options.size, not options.quiet)
    if report:
        page = doctor_page(found, os.path.abspath(catalog.root))
        try:
            Path(report).write_text(page, encoding="utf-8")
        except OSError as error:
            raise InputError(f"--report cannot be written. Received: {options.report}: {error.strerror}.") from None
    print(json.dumps(found) if options.json else _told(found, catalog.root))


def checked(catalog, size: int = SIZE, progress: bool = True) -> dict:
    """All that the doctor finds, as plain values.

    Args:
        catalog: A `Catalog`; leaks are looked for between the splits that it has.
        size: Height and width that a network is to see.
        progress: Whether to show a bar, on a terminal.

    Returns:
        images, classes, left_out, seconds, images_per_second, and findings: a list of `Finding.to_dict`.
    """
    import keras_cnn as kc
    from pipelines import doctor
    from pipelines.datasets.array_cache import ArrayCache
    from pipelines.progress import Steps

    count, steps = len(catalog.included()), Steps(visible=progress)
    start = time.perf_counter()
    with steps.shown(), steps.step("Looking at images", count) as advance:
        catalog, images = doctor.read(catalog, kc.Preprocessing(SEEN), ArrayCache(), advance, store_images=False)
        findings = (*_refused(catalog), *doctor.examine(catalog, images, doctor.likeness(images), (size, size)))
    seconds = time.perf_counter() - start
    return {
        "images": len(catalog.included()),
        "classes": len(catalog.classes),
        "left_out": sum(bool(reason) for reason in catalog.exclusion_reasons),
        "seconds": seconds,
        "images_per_second": count / seconds,
        "findings": [finding.to_dict() for finding in findings],
    }


def _refused(catalog):
    """Why `fit` would not begin with these data, if it would not."""
    from pipelines import doctor

    try:
        catalog.check().split()
    except InputError as error:
        yield doctor.Finding("refused", "error", f"Nothing can be learned from this: {error}")


def _told(found, root):
    lines = [
        f"Classes: {found['classes']:,}. Images: {found['images']:,}. Left out: {found['left_out']:,} "
        f"(looked at in {found['seconds']:.0f} s, {found['images_per_second']:.0f} a second)"
    ]
    for finding in found["findings"]:
        lines.append(f"{finding['level']:<8} {printable(finding['text'])}")
        for files in finding["files"][:SHOWN]:
            names = [printable(os.path.relpath(path, root or os.curdir)) for path in files[:SHOWN]]
            names += [f"and {len(files) - SHOWN:,} more"] if len(files) > SHOWN else []
            lines.append(9 * " " + "  ".join(names))
        if finding["count"] > SHOWN:
            lines.append(9 * " " + f"... and {finding['count'] - SHOWN:,} more (--json lists all)")
    return "\n".join(lines if found["findings"] else [*lines, "Nothing wrong was found."])
