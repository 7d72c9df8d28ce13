"""Checks and widening of arguments, with the one error style of the project.

Every message answers four questions in one sentence or two: whose argument, what is expected, what came, what to do.
"""

from __future__ import annotations

import numbers

DATA_FORMATS = ("channels_last", "channels_first")


def message(owner: str, name: str, expected: str, received, remedy: str = "") -> str:
    """The text of an error about one argument, such as ``Conv2D: `groups` must be positive. Received: groups=0.``"""
    text = f"{owner}: `{name}` must be {expected}. Received: {name}={received!r}."
    return f"{text} {remedy}" if remedy else text


def integer(owner: str, name: str, value, minimum: int = 1) -> int:
    """`value` as an int of at least `minimum`; ValueError otherwise (a bool is not a number here)."""
    if not _is_integer(value, minimum):
        raise ValueError(message(owner, name, f"an integer of at least {minimum}", value))
    return int(value)


def per_axis(owner: str, name: str, value, rank: int, minimum: int = 1) -> tuple[int, ...]:
    """One int for each of `rank` axes: an int is repeated, a sequence must have `rank` entries."""
    entries = (value,) * rank if isinstance(value, numbers.Integral) else value
    valid = isinstance(entries, (tuple, list)) and len(entries) == rank
    if not valid or not all(_is_integer(entry, minimum) for entry in entries):
        raise ValueError(message(owner, name, f"an integer of at least {minimum}, or {rank} of them", value))
    return tuple(int(entry) for entry in entries)


def pairs(owner: str, name: str, value, rank: int, words=()) -> tuple[tuple[int, int], ...]:
    """(before, after) for each of `rank` axes, of amounts of at least 0, such as those of padding.

    An int stands for both sides of every axis; in a sequence with one entry an axis, an int for both sides of its axis.
    Along a single axis (before, after) itself will do. `words`, which the caller accepts as well, are for the message.
    """
    one_pair = rank == 1 and isinstance(value, (tuple, list)) and len(value) == 2
    entries = (value,) * rank if one_pair or isinstance(value, numbers.Integral) else value
    entries = entries if isinstance(entries, (tuple, list)) else ()
    result = [(entry, entry) if isinstance(entry, numbers.Integral) else entry for entry in entries]
    if len(result) != rank or not all(map(_is_pair, result)):
        several = "a pair (before, after)" if rank == 1 else f"{rank} entries, each an integer or (before, after)"
        expected = "".join(f'"{word}", ' for word in words) + f"an integer of at least 0, or {several}"
        raise ValueError(message(owner, name, expected, value))
    return tuple((int(before), int(after)) for before, after in result)


def _is_integer(value, minimum):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= minimum


def _is_pair(entry):
    return isinstance(entry, (tuple, list)) and len(entry) == 2 and all(_is_integer(amount, 0) for amount in entry)


def one_of(owner: str, name: str, value, options):
    """`value` if it is one of `options`; ValueError with the list otherwise."""
    if value not in options:
        raise ValueError(message(owner, name, "one of " + ", ".join(repr(option) for option in options), value))
    return value


def fraction(owner: str, name: str, value, remedy: str = "") -> float:
    """`value` as a float in [0, 1); ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= value < 1:
        raise ValueError(message(owner, name, "a number in [0, 1)", value, remedy))
    return float(value)
