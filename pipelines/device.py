"""What the machine can do."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import tensorflow as tf

BFLOAT16_FROM = (8, 0)  # compute capability: Ampere, https://docs.nvidia.com/cuda/cuda-c-programming-guide


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
    """Whether GPU or processor multiplies in bfloat16; elsewhere TensorFlow does it slower than in float32."""
    if has_gpu():
        details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
        return all(one.get("compute_capability", (0, 0)) >= BFLOAT16_FROM for one in details)
    try:
        processor = Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return False
    return "avx512_bf16" in processor or "amx_bf16" in processor
