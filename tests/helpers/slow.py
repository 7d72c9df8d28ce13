"""Parameters of which the default suite runs a few, and CI all."""

from collections.abc import Collection, Iterable

import pytest


def mark_slow(values: Iterable, except_for: Collection) -> list:
    """`values` for `pytest.mark.parametrize`: only those in `except_for` stay in the default suite."""
    values = list(values)
    assert set(except_for) <= set(values), f"{except_for} must be among {values}"
    return [value if value in except_for else pytest.param(value, marks=pytest.mark.slow) for value in values]
