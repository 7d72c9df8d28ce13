"""Numbers, fields and names as a person reads them."""

from __future__ import annotations

GLOBAL_MARK = " + whole"


def format_field(row) -> tuple[str, str, str]:
    """Size, stride and padding, as columns of the table."""
    if not row.field:
        return "", "", ""
    if all(axis.stride == 0 for axis in row.field):
        if all(axis.size == 0 for axis in row.field):
            return "none", "", ""
        if row.sees_whole_input is not False:
            return "whole input", "", ""
    mark = GLOBAL_MARK if row.global_field else ""
    size, stride, padding = (
        _format_per_axis([getattr(axis, name) for axis in row.field]) for name in ("size", "stride", "padding")
    )
    return size + mark, stride, padding


def _format_per_axis(values):
    texts = ["?" if value is None else str(value) for value in values]
    return texts[0] if len(set(texts)) == 1 else " × ".join(texts)


def human_number(number, unit="") -> str:
    """Three digits and a prefix: 3.86 G."""
    if number is None:
        return "?"
    prefix = ""
    for prefix in ("", "k", "M", "G", "T"):
        if number < 999.5 or prefix == "T":
            break
        number /= 1000
    digits = max(0, 3 - len(str(int(number)))) if prefix else 0
    return f"{number:.{digits}f} {prefix}{unit}".rstrip()


def format_shape(shape) -> str:
    """Sizes joined by ×, "?" for one that is not known."""
    return " × ".join("?" if size is None else str(size) for size in shape)


def shorten_name(name: str, room: int) -> str:
    """A name in at most `room` characters: it loses its middle, and the last part of a path stays complete."""
    if len(name) <= room:
        return name
    last = len(name.rpartition("/")[2]) + 1
    tail = last if "/" in name and last < room else room // 2
    return f"{name[: room - 1 - tail]}…{name[-tail:]}"
