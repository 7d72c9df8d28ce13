"""What the machine can do."""

from __future__ import annotations

import functools
from pathlib import Path

import tensorflow as tf


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
