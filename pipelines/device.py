"""What the machine can do."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import tensorflow as tf


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


@functools.cache
def has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16; elsewhere TensorFlow does it slower than in float32."""
    try:
        processor = Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return False
    return "avx512_bf16" in processor or "amx_bf16" in processor
