"""Checks of arguments, with the one error style of the project.

Each message answers four questions in one or two sentences: whose argument, what is expected, what was received, what
to do about it.
"""

from __future__ import annotations

import difflib
import numbers
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

DATA_FORMATS = ("channels_last", "channels_first")
PADDING_WORDS = ("valid", "same")
# Unicode categories that do not fit into a line of text: control characters, surrogates, line and paragraph separators.
NOT_IN_A_LINE = {"Cc", "Cs", "Zl", "Zp"}


def message(owner: str, name: str, expected: str, received: object, remedy: str = "") -> str:
    """The text of an error about one argument, such as ``Conv2D: `groups` must be positive. Received: groups=0.``"""
    text = f"{owner}: `{name}` must be {expected}. Received: {name}={received!r}."
    return f"{text} {remedy}" if remedy else text


def suggestion(word: object, known: Iterable[object], quote: str = "`") -> str:
    """The question "Did you mean ...?" with the word of `known` that is closest to `word`; "" if none is close."""
    words = [each for each in known if isinstance(each, str)]
    close = difflib.get_close_matches(word, words, n=1) if isinstance(word, str) else []
    return f"Did you mean {quote}{close[0]}{quote}?" if close else ""


def short_message(error: Exception) -> str:
    """The message of an error of another library, as one sentence to quote."""
    # Keras prints in bold, and lists what its layers were called with.
    text = re.sub("\x1b\\[[0-9;]*m", "", str(error)).split("Arguments received by ")[0]
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) < 300 and text.endswith(".") else text[:300].rstrip(".") + "."


def join_some(parts: Iterable[str], most: int = 5, separator: str = ", ") -> str:
    """The first parts joined, and how many more there are.

    Example:
        >>> join_some(["a", "b", "c", "d", "e"], 2)
        'a, b and 3 more'
    """
    parts = list(parts)
    rest = len(parts) - most
    return separator.join(parts[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def is_one_line(text: str) -> bool:
    """Whether a text can be written as one line: it has no control characters and no half characters."""
    return NOT_IN_A_LINE.isdisjoint(map(unicodedata.category, text))


def integer(owner: str, name: str, value: Any, minimum: int = 1) -> int:
    """`value` as an int of at least `minimum`; ValueError otherwise. A bool does not count as an integer."""
    if not _is_integer(value, minimum):
        raise ValueError(message(owner, name, f"an integer of at least {minimum}", value))
    return int(value)


def per_axis(owner: str, name: str, value: Any, rank: int, minimum: int = 1) -> tuple[int, ...]:
    """One int per axis: an int is repeated `rank` times, a sequence must have `rank` entries."""
    entries = (value,) * rank if isinstance(value, numbers.Integral) else value
    if not isinstance(entries, (tuple, list)) or len(entries) != rank or not _are_integers(entries, minimum):
        raise ValueError(message(owner, name, f"an integer of at least {minimum}, or {rank} of them", value))
    return tuple(int(entry) for entry in entries)


def pair(owner: str, name: str, value: Any, minimum: int = 1) -> tuple[int, int]:
    """(height, width) as two ints: an int stands for both."""
    height, width = per_axis(owner, name, value, 2, minimum)
    return height, width


def padding(
    owner: str, value: Any, rank: int, words: Sequence[str] = PADDING_WORDS
) -> str | tuple[tuple[int, int], ...]:
    """One of `words` in lower case, or the numeric padding that `pairs` reads."""
    if isinstance(value, str) and value.lower() in words:
        return value.lower()
    return pairs(owner, "padding", value, rank, words)


def pairs(owner: str, name: str, value: Any, rank: int, words: Sequence[str] = ()) -> tuple[tuple[int, int], ...]:
    """(before, after) for each of `rank` axes, both at least 0, such as amounts of padding.

    An int stands for both sides of every axis. A sequence has one entry per axis: an int for both sides, or a pair.
    For a single axis (before, after) itself is accepted. `words` are what the caller accepts as well; the message names
    them.
    """
    one_pair = rank == 1 and isinstance(value, (tuple, list)) and len(value) == 2
    entries = (value,) * rank if one_pair or isinstance(value, numbers.Integral) else value
    entries = entries if isinstance(entries, (tuple, list)) else ()
    result = [(entry, entry) if isinstance(entry, numbers.Integral) else entry for entry in entries]
    if len(result) != rank or not all(map(_is_pair, result)):
        several = "a pair (before, after)" if rank == 1 else f"{rank} entries, each an integer or (before, after)"
        expected = "".join(f'"{word}", ' for word in words) + f"an integer of at least 0, or {several}"
        raise ValueError(message(owner, name, expected, value, suggestion(value, words, quote='"')))
    return tuple((int(before), int(after)) for before, after in result)


def _is_integer(value: Any, minimum: int) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= minimum


def _are_integers(values: Sequence[Any], minimum: int) -> bool:
    return all(_is_integer(value, minimum) for value in values)


def _is_pair(entry: Any) -> bool:
    return isinstance(entry, (tuple, list)) and len(entry) == 2 and _are_integers(entry, 0)


def one_of(owner: str, name: str, value: T, options: Collection[object]) -> T:
    """`value` if it is one of `options`; ValueError with the list otherwise."""
    if value not in options:
        expected = "one of " + ", ".join(repr(option) for option in options)
        raise ValueError(message(owner, name, expected, value, suggestion(value, options, quote="'")))
    return value


def fraction(owner: str, name: str, value: Any, remedy: str = "") -> float:
    """`value` as a float in [0, 1); ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= float(value) < 1:
        raise ValueError(message(owner, name, "a number in [0, 1)", value, remedy))
    return float(value)
