"""Values of the command line."""

import argparse

import pytest

from pipelines.commands import argument_types


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("90s", 90.0), ("10m", 600.0), ("1.5h", 5_400.0), (".5m", 30.0)]
)
def test_durations(text, seconds):
    assert argument_types.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "10 m", "10min", "-5m", "1m30s", "ten", "1e3", "nan", "inf", "²m"])
def test_what_is_no_duration(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"^must be a number of seconds, or one with its unit such as"):
        argument_types.duration(text)
