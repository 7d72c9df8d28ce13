"""`keras-cnn report`: make the report of a run again, from its records."""

from __future__ import annotations

from pathlib import Path


def add_to(commands) -> None:
    """Add the subcommand to the ones of `argparse`."""
    report = commands.add_parser("report", help="make the HTML report of a run again, from the files in its folder")
    report.add_argument("run_folder", metavar="RUN", help="such as saved_models/photos/runs/1")
    report.set_defaults(run=_run)


def _run(options) -> None:
    from pipelines.names import printable
    from pipelines.report import write_report

    print(printable(write_report(Path(options.run_folder))))
