"""Rewrites a frozen graph: constants folded, strides moved towards the input, arithmetic in the wanted precision."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, rewriter_config_pb2
from tensorflow.python.framework import op_def_registry
from tensorflow.python.grappler import tf_optimizer

from keras_cnn.safety import node_of
from keras_cnn.serving import strides

GraphDef: TypeAlias = tf.compat.v1.GraphDef
NodeDef: TypeAlias = tf.compat.v1.NodeDef

# Passes of TensorFlow's graph optimizer: only those that suit every device. The server that loads the graph chooses fused
# kernels and layouts. TensorFlow's own mixed precision is of no use here: without any message it does nothing on a machine
# whose processor has no oneDNN.
PASSES = ("pruning", "constfold", "dependency", "pruning")
HALF_TYPES = {"bfloat16": tf.bfloat16, "float16": tf.float16}
# Operations whose second input is a kernel -> the axes of the kernel that belong to one channel.
KERNEL_AXES = {"Conv2D": (0, 1, 2), "DepthwiseConv2dNative": (0, 1), "MatMul": (0,)}
# Operations that gain from 16 bits, and those that may follow them in 16 bits: not sums, means and exponentials.
GAINING = {*KERNEL_AXES, "BatchMatMulV2", "Einsum", "Conv2DBackpropInput"}
FOLLOWING = re.compile(
    "Add(V2|N)?|Sub|Mul|Neg|Maximum|Minimum|BiasAdd|Relu6?|LeakyRelu|S?Elu|Sigmoid|Tanh|Softplus|Identity|(Mirror)?Pad(V2)?|"
    "MaxPool|ConcatV2|Reshape|Squeeze|ExpandDims|Transpose|(Strided)?Slice|Split(V)?|DepthToSpace|SpaceToDepth"
)


def rewrite(graph: tf.Graph, inputs: Sequence[str], outputs: Sequence[str], precision: str) -> GraphDef:
    """The graph with its constants folded, its strides moved, and its arithmetic in `precision`.

    Inputs and outputs keep their types.

    Args:
        graph: A graph without variables.
        inputs: The names of the tensors that are fed.
        outputs: The names of the tensors that are fetched.
        precision: "float32"; "bfloat16" or "float16" for all operations that this does not harm; "int8" for kernels of 8 bits.
    """
    graph_def = _optimize(_with_add_n(graph), inputs, outputs)
    graph_def.node.extend(strides.hoist(list(_in_order(graph_def)), outputs))
    if precision == "int8":
        _quantize_kernels(graph_def)
    if precision in HALF_TYPES:
        graph_def = _optimize(_in_16_bits(graph_def, outputs, HALF_TYPES[precision]), inputs, outputs)
    return graph_def


def _with_add_n(graph: tf.Graph) -> GraphDef:
    """The graph as a `GraphDef`, with `AddN` for sums that broadcast nothing.

    TensorFlow fuses a convolution with its bias, a residual sum and an activation only if it knows that the shapes are equal.
    With a free batch size it does not know, except for the operands of `AddN`, which must have one shape.
    """
    graph_def = graph.as_graph_def()
    for node in graph_def.node:
        if node.op in ("Add", "AddV2"):
            one, other = (tensor.shape for tensor in graph.get_operation_by_name(node.name).inputs)
            sides = one.as_list() if one.rank else [0]
            if one.rank == other.rank and sides == other.as_list() and sides[0] is None and None not in sides[1:]:
                node.op = "AddN"
                node.attr["N"].i = 2
    return graph_def


def _in_16_bits(graph_def: GraphDef, outputs: Sequence[str], dtype: tf.DType) -> GraphDef:
    """A copy in which convolutions, matrix products and what follows them compute in 16 bits, with casts in between.

    Everything before the first convolution stays in float32, and so do the outputs.
    """
    result = GraphDef(versions=graph_def.versions, library=graph_def.library)
    half: set[str] = set()  # the nodes that compute in 16 bits
    casts: dict[tuple[str, tf.DType], str] = {}  # (tensor, type) -> the node that casts it
    output_nodes = {node_of(name) for name in outputs}
    constants = {node.name for node in graph_def.node if node.op == "Const"}

    def cast(name: str, target: tf.DType) -> str:
        if (name, target) not in casts:
            new = result.node.add(name=f"{name.replace(':', '_')}/{target.name}", op="Cast", input=[name])
            new.attr["SrcT"].type = (tf.float32 if target == dtype else dtype).as_datatype_enum
            new.attr["DstT"].type = target.as_datatype_enum
            casts[name, target] = new.name
        return casts[name, target]

    for node in _in_order(graph_def):
        node = NodeDef.FromString(node.SerializeToString())
        sources = [node_of(name) for name in node.input]
        follows = FOLLOWING.fullmatch(node.op) and not half.isdisjoint(set(sources) - constants)
        wanted = node.op in GAINING or follows
        # To ask an operation of another kind for its type would add one to it.
        if wanted and node.attr["T"].type == tf.float32.as_datatype_enum and node.name not in output_nodes:
            for index in _indices_of_type_t(node):
                if sources[index] not in half:
                    node.input[index] = cast(node.input[index], dtype)
            half.add(node.name)
            node.attr["T"].type = dtype.as_datatype_enum
        else:
            for index, name in enumerate(node.input):
                if sources[index] in half and not name.startswith("^"):
                    node.input[index] = cast(name, tf.float32)
        result.node.append(node)
    return result


def _indices_of_type_t(node: NodeDef) -> Iterator[int]:
    """The indices of the inputs that have the node's type `T`."""
    index = 0
    for argument in op_def_registry.get(node.op).input_arg:
        count = node.attr[argument.number_attr].i if argument.number_attr else 1
        if argument.type_attr == "T":
            yield from range(index, index + count)
        index += count


def _in_order(graph_def: GraphDef) -> Iterator[NodeDef]:
    """The nodes, each after those that it takes its inputs from."""
    nodes = {node.name: node for node in graph_def.node}
    done: set[str] = set()
    waiting = list(nodes)
    while waiting:
        name = waiting.pop()
        before = [] if name in done else [node_of(one) for one in nodes[name].input if node_of(one) not in done]
        if before:
            waiting += [name, *before]
        elif name not in done:
            done.add(name)
            yield nodes[name]


def _optimize(graph_def: GraphDef, inputs: Sequence[str], outputs: Sequence[str]) -> GraphDef:
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
        meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=graph_def, graph=graph)
    names = [node_of(name) for name in (*inputs, *outputs)]
    meta_graph.collection_def["train_op"].CopyFrom(
        meta_graph_pb2.CollectionDef(node_list=meta_graph_pb2.CollectionDef.NodeList(value=names))
    )
    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.min_graph_nodes = -1  # small graphs too
    options.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
    options.optimizers.extend(PASSES)
    return tf_optimizer.OptimizeGraph(config, meta_graph)


def _quantize_kernels(graph_def: GraphDef) -> None:
    """Replace each kernel by integers from -127 to 127 times one scale per channel."""
    constants = {node.name: node for node in graph_def.node if node.op == "Const"}
    kernels = {node.input[1]: KERNEL_AXES[node.op] for node in graph_def.node if node.op in KERNEL_AXES}
    for name in kernels.keys() & constants.keys():
        kernel = tf.make_ndarray(constants[name].attr["value"].tensor)
        largest = np.abs(kernel).max(kernels[name], keepdims=True)
        scale = (np.where(largest, largest, 1) / 127).astype("float32")
        graph_def.node.remove(constants[name])
        with tf.Graph().as_default() as graph:
            integers = tf.constant(np.round(kernel / scale).astype("int8"), name=f"{name}/int8")
            floats = tf.cast(integers, tf.float32, name=f"{name}/float")
            tf.multiply(floats, tf.constant(scale, name=f"{name}/scale"), name)
        graph_def.node.extend(graph.as_graph_def().node)
