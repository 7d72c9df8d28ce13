"""The precisions that a network can be served in. Without TensorFlow, so that it is quick to import."""

from __future__ import annotations

# Of the convolutions; "int8" stores kernels in 8 bits and computes in float32.
PRECISIONS = ("float32", "bfloat16", "float16", "int8")
