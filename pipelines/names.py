"""Names of files and labels, which others chose: safe to print, to write as JSON, and to open in a spreadsheet."""

from __future__ import annotations

import json
import os
import re
import unicodedata

JOINERS = "\u200c\u200d"  # invisible, but part of the spelling of words and emoji
FORMULA = "=+\\-@\t\r\n＝＋－＠"  # what a spreadsheet takes for the beginning of one (OWASP, CSV injection)
BEGINS_FORMULA = re.compile(f"'*[{FORMULA}]")
NEUTRALISED = re.compile(f"'+[{FORMULA}]")


def printable(text) -> str:
    """Text for a person, on one line: what a terminal would obey, and bytes that are no text, as escapes such as `\\x1b`."""
    text = str(text)
    return text if text.isprintable() else "".join(sign if _harmless(sign) else _escaped(sign) for sign in text)


def to_json(content) -> str:
    """JSON to read, with escapes for what `printable` escapes; what `json.loads` gives of it is what was there."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    return "".join(sign if sign == "\n" or _harmless(sign) else json.dumps(sign)[1:-1] for sign in text)


def to_cell(text: str) -> str:
    """A cell of a CSV table: an apostrophe before what a spreadsheet would compute; `from_cell` takes it away again."""
    return f"'{text}" if BEGINS_FORMULA.match(text) else text


def from_cell(cell: str) -> str:
    """The text that `to_cell` has made a cell of."""
    return cell[1:] if NEUTRALISED.match(cell) else cell


def path_to_cell(path: str) -> str:
    """A cell with the path of a file: `./=1.jpg` names the same file as `=1.jpg`, and is no formula."""
    return os.path.join(os.curdir, path) if BEGINS_FORMULA.match(path) else path


def _harmless(sign):
    return sign.isprintable() or sign in JOINERS or unicodedata.category(sign) == "Zs"


def _escaped(sign):
    if "\udc80" <= sign <= "\udcff":  # a byte of a name that is no text, as Python keeps it
        return f"\\x{ord(sign) - 0xDC00:02x}"
    return sign.encode("unicode_escape").decode()
