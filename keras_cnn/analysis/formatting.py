"""Numbers, fields and names as a person reads them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_cnn.analysis.result import Row

GLOBAL_MARK = " + whole"


def format_field(row: Row) -> tuple[str, str, str]:
    """Size, stride and padding, as columns of the table."""
    if not row.receptive_field:
        return "", "", ""
    if all(axis.stride == 0 for axis in row.receptive_field):
        if all(axis.size == 0 for axis in row.receptive_field):
            return "none", "", ""
        if row.sees_whole_input is not False:
            return "whole input", "", ""
    mark = GLOBAL_MARK if row.global_field else ""
    size, stride, padding = (
        _format_per_axis([getattr(axis, name) for axis in row.receptive_field])
        for name in ("size", "stride", "padding")
    )
    return size + mark, stride, padding


def _format_per_axis(values):
    texts = ["?" if value is None else str(value) for value in values]
    return texts[0] if len(set(texts)) == 1 else " × ".join(texts)


def human_number(number: float | None, unit: str = "") -> str:
    """A number with three digits and a prefix.

    Example:
        >>> human_number(3_858_000_000), human_number(602_112, "B")
        ('3.86 G', '602 kB')
    """
    if number is None:
        return "?"
    prefix = ""
    for prefix in ("", "k", "M", "G", "T"):
        if number < 999.5 or prefix == "T":
            break
        number /= 1000
    digits = max(0, 3 - len(str(int(number)))) if prefix else 0
    return f"{number:.{digits}f} {prefix}{unit}".rstrip()


def format_shape(shape: Iterable[int | None]) -> str:
    """Sizes joined by ×, "?" for one that is not known."""
    return " × ".join("?" if size is None else str(size) for size in shape)


def shorten_name(name: str, room: int) -> str:
    """A name in at most `room` characters: it loses its middle, and the last part of a path stays complete.

    Example:
        >>> shorten_name("backbone/stage4/block2/conv1", 16)
        'backbone/…/conv1'
    """
    if len(name) <= room:
        return name
    last = len(name.rpartition("/")[2]) + 1
    tail = last if "/" in name and last < room else room // 2
    return f"{name[: room - 1 - tail]}…{name[-tail:]}"
