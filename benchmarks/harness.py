"""What the benchmarks share: options, timing in turns, and output.

Import this module before Keras and TensorFlow: it asks TensorFlow to write errors only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from numbers import Integral, Real
from typing import Any, NamedTuple, TypeVar

import pipelines  # noqa: F401 - it switches oneDNN on, as in a job

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

T = TypeVar("T")
Row = Mapping[str, Any]


class Seconds(NamedTuple):
    """The time that passed, and the processor time of all threads of this process."""

    elapsed: float
    processor: float


def parser(doc: str, turns: int | None = None) -> argparse.ArgumentParser:
    """A parser with `--json`, and with `--turns` if `turns` is its default. The first line of `doc` describes it."""
    found = argparse.ArgumentParser(description=doc.splitlines()[0])
    found.add_argument("--json", action="store_true", help="print JSON instead of a table")
    if turns is not None:
        found.add_argument("--turns", type=int, default=turns, help="turns that are measured (default: %(default)s)")
    return found


def timed(function: Callable[..., T], *args: Any, **kwargs: Any) -> tuple[T, Seconds]:
    """What a call returns, and how long it takes. Other programs stretch elapsed time, but hardly processor time."""
    elapsed, processor = time.perf_counter(), time.process_time()
    result = function(*args, **kwargs)
    return result, Seconds(time.perf_counter() - elapsed, time.process_time() - processor)


def consume(iterable: Iterable[object]) -> None:
    """Run over all elements, and store none."""
    for _ in iterable:
        pass


def take_turns(functions: Mapping[str, Callable[[], T]], turns: int, warmup: int = 1) -> dict[str, list[T]]:
    """What each function returns in each turn, without the first `warmup` turns.

    A turn calls every function once, so whatever else the machine does slows all of them. Each turn begins with
    another function, so none has an advantage from its position.
    """
    names = list(functions)
    results: dict[str, list[T]] = {name: [] for name in names}
    for turn in range(warmup + turns):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            results[name].append(functions[name]())
    return {name: values[warmup:] for name, values in results.items()}


def time_in_turns(
    functions: Mapping[str, Callable[[], object]], turns: int, warmup: int = 1
) -> dict[str, list[Seconds]]:
    """The seconds of each function in each turn; see `take_turns`."""
    return take_turns({name: partial(_seconds, function) for name, function in functions.items()}, turns, warmup)


def _seconds(function: Callable[[], object]) -> Seconds:
    _, seconds = timed(function)
    return seconds


def paired_ratios(values: Iterable[float], reference: Iterable[float]) -> list[float]:
    """The ratio within each turn: load on the machine that lasts for a turn cancels out. Report the median."""
    return [value / other for value, other in zip(values, reference, strict=True)]


def quartiles(values: Sequence[float]) -> list[float]:
    """The first and the third quartile; a single value is both."""
    return statistics.quantiles(values, n=4)[::2] if len(values) > 1 else [*values, *values]


def format_value(value: object) -> str:
    """Whole numbers with commas, others with four significant digits, a range from a list; None is empty."""
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return " – ".join(map(format_value, value))
    if isinstance(value, Real) and not isinstance(value, Integral):
        return f"{value:,.0f}" if abs(float(value)) >= 999.95 else f"{value:#.4g}"
    return f"{value:,}" if isinstance(value, Integral) else str(value)


def table(rows: Sequence[Row], columns: Sequence[str] | None = None) -> str:
    """An aligned Markdown table with some keys of the rows as columns (default: all)."""
    keys = list(dict.fromkeys(key for row in rows for key in row)) if columns is None else columns
    lines = zip(*(_column(rows, key) for key in keys), strict=True)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _column(rows: Sequence[Row], key: str) -> list[str]:
    """Heading, rule and cells of one width: text stands at the left, numbers at the right."""
    cells = [key.replace("_", " "), *(format_value(row.get(key)) for row in rows)]
    width = max(3, *map(len, cells))
    is_text = any(isinstance(row.get(key), str) for row in rows)
    heading, *values = [cell.ljust(width) if is_text else cell.rjust(width) for cell in cells]
    return [heading, "-" * (width - 1) + ("-" if is_text else ":"), *values]


def echo(rows: Iterable[Row]) -> Iterator[Row]:
    """The same rows; each is also written to standard error as soon as it is measured."""
    for row in rows:
        texts = {key: format_value(value) for key, value in row.items() if value is not None}
        print(", ".join(f"{key} {text}" for key, text in texts.items()), file=sys.stderr, flush=True)
        yield row


def show(rows: Iterable[Row], as_json: bool, columns: Sequence[str] | None = None) -> None:
    """Print all of the rows as JSON, or some of their columns (default: all) as a table."""
    rows = list(rows)
    print(json.dumps(rows, indent=1, default=float) if as_json else table(rows, columns))
