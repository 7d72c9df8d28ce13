"""Makes names of files and labels, which can be any text, safe to print, to write as JSON and to open in a spreadsheet."""

from __future__ import annotations

import json
import os
import re
import unicodedata

JOINERS = "\u200c\u200d"  # invisible, but needed to spell some words and emoji
FORMULA = "=+\\-@\t\r\n＝＋－＠"  # characters that begin a formula in a spreadsheet (OWASP, CSV injection)
BEGINS_FORMULA = re.compile(f"'*[{FORMULA}]")
QUOTED_FORMULA = re.compile(f"'+[{FORMULA}]")


def printable(text: object) -> str:
    """Text on one line for a terminal: control characters, and bytes that are no text, become escapes such as `\\x1b`."""
    text = str(text)
    return text if text.isprintable() else "".join(char if _is_safe(char) else _escape(char) for char in text)


def to_json(content: object) -> str:
    """Indented JSON in which all characters that `printable` escapes are escaped. `json.loads` gives the same content again."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    return "".join(char if char == "\n" or _is_safe(char) else json.dumps(char)[1:-1] for char in text)


def to_cell(text: str) -> str:
    """A cell of a CSV table. Text that a spreadsheet would compute gets an apostrophe, which `from_cell` removes again."""
    return f"'{text}" if BEGINS_FORMULA.match(text) else text


def from_cell(cell: str) -> str:
    """The text of a cell that `to_cell` made."""
    return cell[1:] if QUOTED_FORMULA.match(cell) else cell


def path_to_cell(path: str) -> str:
    """A cell with the path of a file: `=1.jpg` becomes `./=1.jpg`, the same file, which is no formula."""
    return os.path.join(os.curdir, path) if BEGINS_FORMULA.match(path) else path


def _is_safe(char: str) -> bool:
    return char.isprintable() or char in JOINERS or unicodedata.category(char) == "Zs"


def _escape(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte that is not UTF-8, as Python represents it in file names
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()
