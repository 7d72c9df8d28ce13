"""Moves strides towards the input, so that nothing is computed that a later layer skips.

Some networks, Keras' ResNet50 among them, stride in convolutions of 1 x 1: of all they are given they read every second row
and column. Where nothing else reads the rest, the layers in front need not compute it: in ResNet50 that is a tenth of all
multiplications.
"""

from __future__ import annotations

from collections import defaultdict

import tensorflow as tf

from keras_cnn.serving.inspection import node_of

# A convolution, and what computes each place of its result from the same place of its inputs -> how many of the inputs are
# maps; None: all.
MAPS = {"AddN": None, "BiasAdd": 1, "Conv2D": 1, "Elu": 1, "Identity": 1, "LeakyRelu": 1, "Relu": 1, "Relu6": 1}
EVERY = (1, 1, 1, 1)


def hoist(nodes, fetched) -> list:
    """Have a graph compute only those rows and columns of a map that are read. Its results stay as they are.

    A convolution takes over the stride with which all its readers read; what gives one place for one place hands it on. Of a
    map that others read whole, the places are picked.

    Args:
        nodes: The `NodeDef`s of a graph without variables, each behind those it takes its inputs from; changed.
        fetched: Names of the tensors that come out.

    Returns:
        The nodes that the graph needs besides.
    """
    named, readers, steps = {node.name: node for node in nodes}, defaultdict(list), {}
    for node in nodes:
        for name in node.input:
            readers[node_of(name)].append(node)
    kept = {node_of(name) for name in fetched}
    for node in reversed(nodes):
        wanted = {_step_of_reading(reader, node.name, named, steps) for reader in readers[node.name]}
        if len(wanted) == 1 and EVERY not in wanted and node.name not in kept and _can_step(node, named):
            (steps[node.name],) = wanted
            if node.op == "Conv2D":
                _stride(node, steps[node.name], named)
    return _agreed(nodes, named, steps)


def _step_of_reading(reader, name, named, steps):
    """Every how many-th place of the map `name` a node reads, along each axis."""
    if name in _maps(reader):
        if reader.op != "Conv2D":
            return steps.get(reader.name, EVERY)
        if _is_pointwise(reader, named):
            return tuple(reader.attr["strides"].list.i)
    return EVERY


def _maps(node):
    """The inputs of a convolution, or of what gives one place for one place, that are maps."""
    return [] if node.op not in MAPS else [name for name in node.input if name[0] != "^"][: MAPS[node.op]]


def _is_pointwise(convolution, named):
    return _window(convolution, named) == (1, 1) and not any(convolution.attr["explicit_paddings"].list.i)


def _window(convolution, named):
    """Height and width of the kernel if it is a constant."""
    kernel = named[node_of(convolution.input[1])]
    if kernel.op == "Const":
        return tuple(side.size for side in kernel.attr["value"].tensor.tensor_shape.dim[:2])
    return None


def _can_step(node, named):
    """Whether a node can compute every second place alone."""
    if node.op != "Conv2D":
        return node.op in MAPS
    # "SAME" pads by the size of the input where the stride is not 1.
    known = node.attr["padding"].s != b"SAME" or set(node.attr["strides"].list.i) == {1}
    return known and set(node.attr["dilations"].list.i) <= {1} and _window(node, named) is not None


def _stride(convolution, step, named):
    """Multiply the strides by `step`, with the padding that belongs to the old ones."""
    strides = convolution.attr["strides"].list
    strides.i[:] = [stride * more for stride, more in zip(strides.i, step, strict=True)]
    if convolution.attr["padding"].s == b"SAME":
        pads = [((side - 1) // 2, side // 2) for side in _window(convolution, named)]
        first = 1 if convolution.attr["data_format"].s == b"NHWC" else 2
        around = [(0, 0)] * first + pads + [(0, 0)] * (2 - first)
        convolution.attr["padding"].s = b"EXPLICIT"
        convolution.attr["explicit_paddings"].list.i[:] = [pad for pair in around for pad in pair]


def _agreed(nodes, named, steps):
    """Give every reader what it reads: a stride of 1 where the step is taken already, every `step`-th place where not."""
    added = {}
    for node in nodes:
        for index, name in enumerate(_maps(node)):
            if node.op == "Conv2D":
                if name in steps and _is_pointwise(node, named):
                    node.attr["strides"].list.i[:] = EVERY
            elif node.name in steps and name not in steps:
                thinned = _thinned(node, name, steps[node.name])
                node.input[index] = added.setdefault(thinned.name, thinned).name
    return list(added.values())


def _thinned(reader, name, step):
    """A node that takes every `step`-th place of a tensor: pooling with a window of 1, faster than `StridedSlice` on a CPU."""
    node = tf.compat.v1.NodeDef(op="MaxPool", name=f"{name}/every_{'_'.join(map(str, step))}", input=[name])
    node.attr["T"].CopyFrom(reader.attr["T"])
    node.attr["ksize"].list.i[:] = EVERY
    node.attr["strides"].list.i[:] = step
    node.attr["padding"].s = b"VALID"
    node.attr["data_format"].s = b"NHWC" if step[-1] == 1 else b"NCHW"
    return node
