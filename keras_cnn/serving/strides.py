"""Moves strides towards the input, so that nothing is computed that a later layer skips.

Some networks, Keras' ResNet50 among them, stride in 1 x 1 convolutions, which read only every second row and column of their
input. Where nothing else reads the rest, the layers before need not compute it. In ResNet50 that saves a tenth of all
multiplications.

Example: `Conv2D 3x3 -> ReLU -> Conv2D 1x1, stride 2` becomes `Conv2D 3x3, stride 2 -> ReLU -> Conv2D 1x1`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import tensorflow as tf

from keras_cnn.safety import node_of

# Operations whose output at a position depends on their inputs at the same position alone, and the convolution -> the number
# of inputs that are feature maps; None: all.
MAP_INPUTS = {"AddN": None, "BiasAdd": 1, "Conv2D": 1, "Elu": 1, "Identity": 1, "LeakyRelu": 1, "Relu": 1, "Relu6": 1}
EVERY = (1, 1, 1, 1)
NodeDef: TypeAlias = tf.compat.v1.NodeDef
Nodes: TypeAlias = dict[str, NodeDef]
Stride: TypeAlias = tuple[int, ...]


def hoist(nodes: Sequence[NodeDef], outputs: Iterable[str]) -> list[NodeDef]:
    """Change a graph so that of each feature map only those rows and columns are computed that are read.

    A convolution takes over the stride with which all its readers read; an operation that works position by position passes it
    on. A map that other readers need completely is subsampled for the strided reader. The outputs stay the same.

    Args:
        nodes: The `NodeDef`s of a graph without variables, each after those it takes its inputs from; they are changed.
        outputs: The names of the tensors that the graph gives.

    Returns:
        The additional nodes that the graph needs.
    """
    by_name = {node.name: node for node in nodes}
    readers: dict[str, list[NodeDef]] = defaultdict(list)
    strides: dict[str, Stride] = {}
    for node in nodes:
        for name in node.input:
            readers[node_of(name)].append(node)
    output_nodes = {node_of(name) for name in outputs}
    for node in reversed(nodes):
        wanted = {_read_stride(reader, node.name, by_name, strides) for reader in readers[node.name]}
        if len(wanted) == 1 and EVERY not in wanted and node.name not in output_nodes and _can_stride(node, by_name):
            (strides[node.name],) = wanted
            if node.op == "Conv2D":
                _multiply_strides(node, strides[node.name], by_name)
    return _reconcile_readers(nodes, by_name, strides)


def _read_stride(reader: NodeDef, name: str, by_name: Nodes, strides: dict[str, Stride]) -> Stride:
    """With which stride a node reads the map `name`, along each axis."""
    if name in _map_inputs(reader):
        if reader.op != "Conv2D":
            return strides.get(reader.name, EVERY)
        if _is_pointwise(reader, by_name):
            return tuple(reader.attr["strides"].list.i)
    return EVERY


def _map_inputs(node: NodeDef) -> list[str]:
    """The inputs of an operation of `MAP_INPUTS` that are feature maps; none of another operation."""
    return [] if node.op not in MAP_INPUTS else [name for name in node.input if name[0] != "^"][: MAP_INPUTS[node.op]]


def _is_pointwise(convolution: NodeDef, by_name: Nodes) -> bool:
    return _kernel_size(convolution, by_name) == (1, 1) and not any(convolution.attr["explicit_paddings"].list.i)


def _kernel_size(convolution: NodeDef, by_name: Nodes) -> tuple[int, ...]:
    """Height and width of the kernel if it is a constant, else ()."""
    kernel = by_name[node_of(convolution.input[1])]
    return tuple(side.size for side in kernel.attr["value"].tensor.tensor_shape.dim[:2]) if kernel.op == "Const" else ()


def _can_stride(node: NodeDef, by_name: Nodes) -> bool:
    """Whether a node can compute every second position alone."""
    if node.op != "Conv2D":
        return node.op in MAP_INPUTS
    # "SAME" pads by the size of the input where the stride is not 1.
    padding_is_known = node.attr["padding"].s != b"SAME" or set(node.attr["strides"].list.i) == {1}
    not_dilated = set(node.attr["dilations"].list.i) <= {1}
    return padding_is_known and not_dilated and bool(_kernel_size(node, by_name))


def _multiply_strides(convolution: NodeDef, factors: Stride, by_name: Nodes) -> None:
    """Multiply the strides; the padding stays that of the old strides."""
    strides = convolution.attr["strides"].list
    strides.i[:] = [stride * factor for stride, factor in zip(strides.i, factors, strict=True)]
    if convolution.attr["padding"].s == b"SAME":
        pads = [((side - 1) // 2, side // 2) for side in _kernel_size(convolution, by_name)]
        first = 1 if convolution.attr["data_format"].s == b"NHWC" else 2
        per_axis = [(0, 0)] * first + pads + [(0, 0)] * (2 - first)
        convolution.attr["padding"].s = b"EXPLICIT"
        convolution.attr["explicit_paddings"].list.i[:] = [pad for pair in per_axis for pad in pair]


def _reconcile_readers(nodes: Sequence[NodeDef], by_name: Nodes, strides: dict[str, Stride]) -> list[NodeDef]:
    """Let every reader read what it needs: with stride 1 what is strided now, and a subsampled copy of what is not."""
    added: Nodes = {}
    for node in nodes:
        for index, name in enumerate(_map_inputs(node)):
            if node.op == "Conv2D":
                if name in strides and _is_pointwise(node, by_name):
                    node.attr["strides"].list.i[:] = EVERY
            elif node.name in strides and name not in strides:
                copy = _subsampled(node, name, strides[node.name])
                node.input[index] = added.setdefault(copy.name, copy).name
    return list(added.values())


def _subsampled(reader: NodeDef, name: str, stride: Stride) -> NodeDef:
    """A node that strides over a tensor: pooling with a window of 1, which on a CPU is faster than `StridedSlice`."""
    node = NodeDef(op="MaxPool", name=f"{name}/every_{'_'.join(map(str, stride))}", input=[name])
    node.attr["T"].CopyFrom(reader.attr["T"])
    node.attr["ksize"].list.i[:] = EVERY
    node.attr["strides"].list.i[:] = stride
    node.attr["padding"].s = b"VALID"
    node.attr["data_format"].s = b"NHWC" if stride[-1] == 1 else b"NCHW"
    return node
