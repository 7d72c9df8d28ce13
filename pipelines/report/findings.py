"""What the doctor found, for the pages that show it."""

from __future__ import annotations

import os

from keras_cnn import Preprocessing
from pipelines.doctor.findings import MISNAMED
from pipelines.doctor.headers import TRAITS
from pipelines.report import pictures

MOST_SETS, MOST_OF_SET = 4, 12
WHOLE = Preprocessing(pictures.THUMBNAIL, "fit")
UNSEEN = ("left out", MISNAMED, *TRAITS)  # of these the names say enough


def shown(findings, root: str) -> list[dict]:
    """What `findings.html` shows.

    Args:
        findings: A list of `pipelines.doctor.Finding.to_dict`.
        root: The folder that paths are told from.
    """
    return [{**finding, **_sets(finding, root)} for finding in findings]


def _sets(finding, root):
    """The sets to be shown, each with how many of its files are not, and how many sets are not."""
    files, hidden = finding["files"][:MOST_SETS], finding["count"] - MOST_SETS
    if files and max(map(len, finding["files"])) == 1:  # pictures that stand alone share a row
        files = [[path for (path,) in finding["files"][:MOST_OF_SET]]]
        hidden = finding["count"] - MOST_OF_SET
    sets = [
        {
            "files": [_shown(path, root, finding["kind"]) for path in paths[:MOST_OF_SET]],
            "hidden": max(0, len(paths) - MOST_OF_SET),
        }
        for paths in files
    ]
    return {"sets": sets, "hidden": max(0, hidden)}


def _shown(path, root, kind):
    picture = None if kind in UNSEEN else pictures.thumbnail(path, WHOLE)
    return {"path": os.path.relpath(path, root or os.curdir), "picture": picture}
