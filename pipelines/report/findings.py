"""The findings of the doctor, prepared for the pages that show them."""

from __future__ import annotations

import os
from typing import Any

from keras_cnn import Preprocessing
from pipelines.doctor.findings import WRONG_SUFFIX
from pipelines.doctor.headers import TRAITS
from pipelines.report import embedded_images

MAX_SETS, MAX_FILES = 4, 12
WHOLE_IMAGE = Preprocessing(embedded_images.THUMBNAIL, "fit")
NAME_ONLY = ("excluded", WRONG_SUFFIX, *TRAITS)  # kinds of findings whose images need not be shown


def for_page(findings: list[dict], root: str) -> list[dict]:
    """Findings with what `findings.html` shows of them.

    Args:
        findings: From `pipelines.doctor.Finding.to_dict`.
        root: The folder that paths are shown relative to.
    """
    return [{**finding, **_shown_sets(finding, root)} for finding in findings]


def _shown_sets(finding: dict[str, Any], root: str) -> dict[str, Any]:
    """The sets that are shown, each with the number of files that are not, and the number of sets that are not shown."""
    files, hidden = finding["files"][:MAX_SETS], finding["count"] - MAX_SETS
    if files and max(map(len, finding["files"])) == 1:  # single files share one row
        files = [[path for (path,) in finding["files"][:MAX_FILES]]]
        hidden = finding["count"] - MAX_FILES
    sets = [
        {
            "files": [_file(path, root, finding["kind"]) for path in paths[:MAX_FILES]],
            "hidden": max(0, len(paths) - MAX_FILES),
        }
        for paths in files
    ]
    return {"sets": sets, "hidden": max(0, hidden)}


def _file(path: str, root: str, kind: str) -> dict[str, str | None]:
    image = None if kind in NAME_ONLY else embedded_images.thumbnail(path, WHOLE_IMAGE)
    return {"path": os.path.relpath(path, root or os.curdir), "image": image}
