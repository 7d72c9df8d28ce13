"""Values of the command line, checked as argparse reads them."""

from __future__ import annotations

import argparse

from pipelines.names import printable


def count(text: str) -> int:
    """A whole number from 0."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 999999999. Received: {printable(text)}")
    return int(text)


def number(text: str) -> float:
    """Any number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number. Received: {printable(text)}") from None


def duration(text: str) -> float:
    """Seconds: a number, or one with s, m or h after it."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    try:
        return float(text.rstrip("smh")) * units[text.lstrip("0123456789.") or "s"]
    except (ValueError, KeyError):
        raise argparse.ArgumentTypeError(
            f"must be a number of seconds, or one with its unit such as 90s, 10m or 1.5h. Received: {printable(text)}"
        ) from None


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1. Received: {printable(text)}")
    return value


def input_range(text: str) -> tuple[float, float]:
    """The values of black and white, such as -1,1."""
    try:
        black, white = (float(value) for value in text.split(","))
    except ValueError:
        received = printable(text)
        raise argparse.ArgumentTypeError(
            f"must be two numbers, for black and for white, such as 0,1. Received: {received}"
        ) from None
    return black, white
