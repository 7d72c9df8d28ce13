"""Parameters of which the default suite runs a few, and CI all."""

from collections.abc import Collection, Iterable

import pytest


def slow_but(quick: Collection, values: Iterable) -> list:
    """`values` for `pytest.mark.parametrize`: those in `quick` stay in the default suite, the others are marked slow."""
    values = list(values)
    assert set(quick) <= set(values), f"{set(quick) - set(values)} must be among {values}"
    return [value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in values]
