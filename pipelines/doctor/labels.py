"""Labels that look the same or similar, but are different classes: an extra space, another form of an accent, case."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable


def find_similar(labels: Iterable[str]) -> tuple[list[list[str]], list[list[str]]]:
    """Sets of labels that look the same, and sets of labels that are the same except for case or spaces.

    Args:
        labels: Different texts.

    Returns:
        Sets that differ only by white space, invisible characters or Unicode form; and sets that differ by upper and lower case
        or by spaces between words, each with at least two labels that do not look the same.
    """
    by_look, by_letters = defaultdict(list), defaultdict(list)
    for label in labels:
        by_look[normalize(label)].append(label)
        by_letters["".join(normalize(label.casefold()).casefold().split())].append(label)
    same = [group for group in by_look.values() if len(group) > 1]
    similar = [group for group in by_letters.values() if len({normalize(label) for label in group}) > 1]
    return same, similar


def normalize(label: str) -> str:
    """A label as it looks: in one Unicode form (NFKC), without invisible characters, with single spaces between words."""
    text = unicodedata.normalize("NFKC", label)
    visible = "".join(char for char in text if unicodedata.category(char) != "Cf" and not _is_variation_selector(char))
    return " ".join(unicodedata.normalize("NFKC", visible).split())


def format_label(label: str) -> str:
    """A label in quotes, which show its spaces, with escapes for characters that look like others or like nothing."""
    return "".join(char if _is_unambiguous(char) else ascii(char)[1:-1] for char in repr(label))


def _is_unambiguous(char: str) -> bool:
    return (
        not unicodedata.combining(char) and not _is_variation_selector(char) and unicodedata.is_normalized("NFKC", char)
    )


def _is_variation_selector(char: str) -> bool:
    return "\ufe00" <= char <= "\ufe0f"
