"""Labels that look alike, or nearly, and are classes of their own: a blank too many, another way to write an accent, case."""

from __future__ import annotations

import unicodedata
from collections import defaultdict


def alike(labels) -> tuple[list[list[str]], list[list[str]]]:
    """Sets of labels that a reader takes for the same, and further sets of those that are the same but for case or blanks.

    Args:
        labels: Different texts.

    Returns:
        Sets that differ only by white space, invisible signs or Unicode form; and sets that differ by upper and lower case, or
        by whether words are written together, each with at least two that do not belong to one set of the first kind.
    """
    same, loose = defaultdict(list), defaultdict(list)
    for label in labels:
        same[plain(label)].append(label)
        loose["".join(plain(label.casefold()).casefold().split())].append(label)
    by_case = [group for group in loose.values() if len({plain(label) for label in group}) > 1]
    return [group for group in same.values() if len(group) > 1], by_case


def plain(label: str) -> str:
    """A label as one sees it: in one Unicode form (NFKC), without invisible signs, with single blanks between words."""
    text = unicodedata.normalize("NFKC", label)
    visible = "".join(sign for sign in text if unicodedata.category(sign) != "Cf" and not _selects_a_variant(sign))
    return " ".join(unicodedata.normalize("NFKC", visible).split())


def shown(label: str) -> str:
    """A label in quotes, so that its blanks can be seen, with escapes for what looks like something else."""
    return "".join(sign if _plainly_visible(sign) else ascii(sign)[1:-1] for sign in repr(label))


def _plainly_visible(sign):
    return not unicodedata.combining(sign) and not _selects_a_variant(sign) and unicodedata.is_normalized("NFKC", sign)


def _selects_a_variant(sign):
    return "\ufe00" <= sign <= "\ufe0f"
