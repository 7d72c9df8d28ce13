"""Functions for `tf.data` whose Python code TensorFlow leaves as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

F = TypeVar("F", bound=Callable)


def without_autograph(function: F) -> F:
    """A decorator for what `Dataset.map` and `flat_map` call: TensorFlow traces the function without rewriting its code.

    Rewriting takes time in every process. It is needed only where Python's `if` or `while` depends on a tensor, so neither
    the function nor what it calls may do that.
    """
    return tf.autograph.experimental.do_not_convert(function)
