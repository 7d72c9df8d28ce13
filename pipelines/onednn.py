"""oneDNN on x86 processors where TensorFlow leaves it off, which halves the speed of training and of features.

TensorFlow switches it on by itself where there is AVX512-VNNI or AVX-VNNI; `benchmarks/onednn.py` measures the difference.
Without it, convolutions with channels first do not exist on a CPU.
"""

from __future__ import annotations

import os
import platform
import sys
import warnings
from pathlib import Path

VARIABLE = "TF_ENABLE_ONEDNN_OPTS"
ON_BY_DEFAULT = {"avx512_vnni", "avx_vnni"}  # flags of such processors, as Linux names them


def switch_on(processor: Path = Path("/proc/cpuinfo")) -> None:
    """Set the variable that TensorFlow reads when it is loaded, unless the user has set it; warn if it is too late.

    Args:
        processor: The description of the processor; only Linux has one.
    """
    if platform.machine() not in ("x86_64", "AMD64") or VARIABLE in os.environ:
        return
    os.environ[VARIABLE] = "1"
    if "tensorflow" in sys.modules and processor.exists() and not ON_BY_DEFAULT & set(processor.read_text().split()):
        warnings.warn(
            "TensorFlow was loaded without oneDNN, and trains at about half of its speed on this processor. Import pipelines "
            f"before keras and tensorflow, or set {VARIABLE}=1.",
            stacklevel=3,
        )
