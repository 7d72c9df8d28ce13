"""Tables of image files: CSV, and Parquet if `pyarrow` is installed."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pipelines.catalog.splits import SPELLINGS
from pipelines.errors import InputError
from pipelines.names import from_cell

Columns = dict[str, list[str]]  # the cells of each column, by name

SEPARATORS = ",;\t"
COLUMNS = ("path", "label", "split", "group", "reason")
FINGERPRINT = "fingerprint"  # the last column of the table of a run: a number that stands for the bytes of a file
LABEL_PREFIX = "label:"  # before the name of a class, in the header of its column of 0 and 1
BOOLEANS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
UTF_16_MARKS = ("\udcff\udcfe", "\udcfe\udcff")  # FF FE or FE FF, as Python represents bytes that are not UTF-8
SEPARATOR_LINE = re.compile(r'"?sep=(?P<separator>[^\r\n]*?)"?[\r\n]*$', re.IGNORECASE)
HEADER = "The first line must name the columns, separated by commas, semicolons or tabs."


def rows(
    table: str, path: str, label: str | tuple[str, ...] | None, split: str | None, group: str | None, root: str
) -> Iterator[tuple]:
    """Yield `(path, label, split, group, reason)` for every row of a table; see `Catalog.from_csv`."""
    wanted = {path, *([label] if isinstance(label, str) else label or ["label"]), split or "split", group or "group"}
    columns = _parquet(table) if _is_parquet(table) else _csv(table, wanted)
    is_saved = tuple(columns)[: len(COLUMNS)] == COLUMNS  # by `Catalog.to_csv`
    if is_saved:
        columns = {from_cell(name): list(map(from_cell, cells)) for name, cells in columns.items()}
    names = tuple(columns)
    if label is None:
        label = tuple(name for name in names if is_saved and name.startswith(LABEL_PREFIX)) or "label"
    elif len(label) == 1 and not isinstance(label, str):
        label = label[0]
    paths = [os.path.join(root, name) for name in _column(table, columns, path)]
    reasons = columns["reason"] if is_saved else [""] * len(paths)
    labels = _labels(table, columns, label, paths, reasons)
    splits = _optional(table, columns, split, "split", paths)
    splits = [_parse_split(table, name, file) for name, file in zip(splits, paths, strict=True)]
    groups = _optional(table, columns, group, "group", paths)
    _check_text(table, [*names, *dict.fromkeys(splits + groups), *_distinct_names(labels)])
    _check_files(table, paths, labels, reasons, root)
    return zip(paths, labels, splits, groups, reasons, strict=True)


def saved_rows(table: str | os.PathLike) -> list[dict[str, str]]:
    """The rows of a table that `Catalog.to_csv` wrote, dicts by column. The files need not exist any more.

    Raises:
        InputError: If the columns are different, for example because a spreadsheet saved the table.
    """
    with open(table, encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = csv.DictReader(file)
        if not {"path", "split"} <= set(rows.fieldnames or ()):
            raise InputError(
                f"{table} must have the columns path and split, separated by commas, as `fit` wrote it. Received: "
                f"{', '.join(rows.fieldnames or ()) or 'an empty file'}. Save it as CSV with commas."
            )
        return [{name: from_cell(cell or "") for name, cell in row.items() if name} for row in rows]


def _csv(table: str, wanted: set[str]) -> Columns:
    """The cells of a CSV file: one list per column, by name. Columns that are `wanted` help to guess the separator."""
    reader, before = None, 0
    try:
        # File names may be no valid text; the other columns are checked later.
        with open(table, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            first = file.readline()
            if "\0" in first or first.startswith(UTF_16_MARKS):
                received = "zero bytes, as in UTF-16" if "\0" in first else "the byte order mark of UTF-16"
                raise InputError(f"{table} must be text in UTF-8. Received: {received}. Save it as UTF-8.")
            separator = _declared_separator(table, first)
            before = 0 if separator is None else 1
            if separator is None:
                file.seek(0)
            reader = csv.reader(file, delimiter=separator or _guess_separator(first, wanted), strict=True)
            header = next(reader, None)
            if not header:
                where = "its first line" if separator is None else f"the line after {first.strip()!r}"
                raise InputError(f"{table} must be a table of image files. Received: nothing in {where}. {HEADER}")
            return _read_columns(table, header, reader, before)
    except csv.Error as error:
        line = before + (reader.line_num if reader else 1)
        raise InputError(f"{table} cannot be read as a table from line {line} on: {error}. Correct it.") from None
    except OSError as error:
        raise InputError(f"{table} cannot be read: {error.strerror}.") from None


def _declared_separator(table: str, first: str) -> str | None:
    """The separator from a first line such as `sep=;`, as Excel writes it; None if there is no such line."""
    found = SEPARATOR_LINE.match(first)
    if not found:
        return None
    separator = {"\\t": "\t"}.get(found["separator"], found["separator"])
    if len(separator) != 1 or separator.isalnum() or separator in "\"' ":
        raise InputError(
            f"The first line of {table} must name one character that separates columns. Received: {first.strip()!r}. "
            "Correct it, for example to sep=; or remove it."
        )
    return separator


def _guess_separator(header: str, wanted: set[str]) -> str:
    """The separator with which the header has most of the wanted columns; among equals, most columns."""

    def columns(separator: str) -> tuple[int, int]:
        names = next(csv.reader([header], delimiter=separator), [])
        return len(wanted.intersection(names)), len(names)

    return max(SEPARATORS, key=columns)


def _read_columns(table: str, header: list[str], reader: Any, lines_before: int) -> Columns:
    while len(header) > 1 and not header[-1]:  # each line ends in a separator
        header.pop()
    repeated = [name for number, name in enumerate(header) if name in header[:number]]
    if repeated:
        raise InputError(f"Each column needs a different name. Received: {repeated[0]!r} twice in {table}. {HEADER}")
    columns: list[list[str]] = [[] for _ in header]
    shared: dict[str, str] = {}
    for cells in reader:
        if not cells:  # an empty line
            continue
        cells = _match_header(cells, header)
        if len(cells) != len(header):
            raise InputError(
                f"Each line of {table} must have {len(header)} cells, like the first one. Received: {len(cells)} in line "
                f"{reader.line_num + lines_before}. Put cells with a separator into double quotes."
            )
        for column, cell in zip(columns, cells, strict=True):
            column.append(
                shared.setdefault(cell, cell) if len(cell) < 32 else cell
            )  # equal cells share one text, which saves memory
    if not columns[0]:
        below = "the header" if lines_before else "the first line"
        raise InputError(f"{table} must be a table of image files. Received: no row below {below}.")
    return dict(zip(header, columns, strict=True))


def _match_header(cells: list[str], header: list[str]) -> list[str]:
    """The cells without empty ones after the last column. A row that a person added to a run's table may lack a fingerprint."""
    if len(cells) > len(header) and not any(cells[len(header) :]):
        return cells[: len(header)]
    return [*cells, ""] if header[-1] == FINGERPRINT and len(cells) == len(header) - 1 else cells


def _is_parquet(table: str) -> bool:
    try:
        with open(table, "rb") as file:
            return file.read(4) == b"PAR1"
    except OSError as error:
        raise InputError(f"{table} cannot be read: {error.strerror}.") from None


def _parquet(table: str) -> Columns:
    """The cells of a Parquet file as texts; "" for missing values."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise InputError(
            f'Parquet needs pyarrow, which is not installed. Received: {table}. Run: pip install "keras-cnn[parquet]"'
        ) from None
    try:
        columns = parquet.read_table(table).to_pydict()
    except (ArrowException, OSError) as error:
        raise InputError(f"{table} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    if not any(columns.values()):
        raise InputError(f"{table} must be a table of image files. Received: no row.")
    return {name: ["" if cell is None else str(cell) for cell in cells] for name, cells in columns.items()}


def _column(table: str, columns: Columns, name: str) -> list[str]:
    if name not in columns:
        received = ", ".join(map(repr, list(columns)[:20]))
        raise InputError(f"{table} has no column {name!r}. Received: {received}. Use one of these. {HEADER}")
    return columns[name]


def _optional(table: str, columns: Columns, name: str | None, default: str, paths: list[str]) -> list[str]:
    """The column of this name; without a name the one of the default name, or empty cells if there is none."""
    if name is None and default not in columns:
        return [""] * len(paths)
    return _column(table, columns, name or default)


def _labels(
    table: str, columns: Columns, label: str | tuple[str, ...], paths: list[str], reasons: list[str]
) -> list[str] | list[tuple[str, ...]]:
    """The label of each row; with several columns a tuple of the names of those with a 1."""
    if isinstance(label, str):
        labels = _column(table, columns, label)
        for path, name, reason in zip(paths, labels, reasons, strict=True):
            if not name and not reason:
                raise InputError(
                    f"Each row of {table} needs a label. Received: none for {path}. Fill it or remove the row."
                )
        return labels
    cells, classes = (
        [_column(table, columns, name) for name in label],
        [name.removeprefix(LABEL_PREFIX) for name in label],
    )
    multi_hot: list[tuple[str, ...]] = []
    for path, *row in zip(paths, *cells, strict=True):
        values = [BOOLEANS.get(cell.lower()) for cell in row]
        if None in values:
            name, cell = label[values.index(None)], row[values.index(None)]
            raise InputError(
                f"Each of several label columns of {table} must contain 0 or 1. Received: {cell!r} in {name!r} for {path}."
            )
        multi_hot.append(tuple(name for name, value in zip(classes, values, strict=True) if value))
    empty = [name for name in classes if name not in _distinct_names(multi_hot)]
    if empty:
        raise InputError(
            f"Each of several label columns of {table} must contain at least one 1. Received: none in {empty[0]!r}. Omit it."
        )
    return multi_hot


def _parse_split(table: str, name: str, path: str) -> str:
    if not name:
        return ""
    split = SPELLINGS.get(name.strip().lower())
    if split is None:
        raise InputError(
            f"The splits of {table} must be train, validation or test. Received: {name!r} for {path}. Rename it, or the column."
        )
    return split


def _distinct_names(labels: Iterable[str | tuple[str, ...]]) -> dict[str, None]:
    """All names in a column of labels."""
    return dict.fromkeys(
        name for label in dict.fromkeys(labels) for name in ([label] if isinstance(label, str) else label)
    )


def _check_text(table: str, texts: Iterable[str]) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{table} must be text in UTF-8. Received: {os.fsencode(text)!r}. Save it as UTF-8."
            ) from None


def _check_files(
    table: str, paths: list[str], labels: Sequence[str | tuple[str, ...]], reasons: list[str], root: str
) -> None:
    """Check that each file has one row, and that the files of included rows exist."""
    first: dict[str, int] = {}
    for index, path in enumerate(map(os.path.normpath, paths)):
        other = first.setdefault(path, index)
        if other != index:
            raise InputError(
                f"Each file may have one row. Received: {path} in two rows of {table}, labelled {labels[other]!r} and "
                f"{labels[index]!r}. Remove one; several labels of a file are several columns of 0 and 1."
            )
    missing = [path for path, reason in zip(paths, reasons, strict=True) if not reason and not os.path.isfile(path)]
    if missing:
        _check_text(table, missing[:1])
        raise InputError(
            f"Each row of {table} must name a file. Received: {len(missing)} of {len(paths)} that do not exist, such as "
            f"{missing[0]}. Correct the paths, which are relative to {root or 'the working directory'}, or remove the rows."
        )
