"""`keras-cnn report`: make the report of a run again, from its records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def add_to(commands: Any) -> None:
    """Add the subcommand to the ones of `argparse`."""
    report = commands.add_parser("report", help="make the HTML report of a run again, from the files in its folder")
    report.add_argument("run_folder", metavar="RUN", help="such as saved_models/photos/runs/1")
    report.add_argument("--json", action="store_true", help="print the path as JSON")
    report.set_defaults(run=_run)


def _run(options) -> None:
    from pipelines.names import printable
    from pipelines.report import write_report

    path = write_report(Path(options.run_folder))
    print(json.dumps({"report": str(path)}) if options.json else printable(path))
