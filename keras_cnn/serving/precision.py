"""Rewrites the arithmetic of a frozen graph."""

from __future__ import annotations

import re

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, rewriter_config_pb2
from tensorflow.python.framework import op_def_registry
from tensorflow.python.grappler import tf_optimizer

from keras_cnn.serving import strides
from keras_cnn.serving.inspection import node_of

# Passes of TensorFlow's graph optimizer: only what holds for every device. Fused kernels and layouts are chosen by the
# server that loads the graph. Its own mixed precision is of no use here: without a word it does nothing on a machine
# whose processor oneDNN is not switched on for.
CLEAN = ("pruning", "constfold", "dependency", "pruning")
HALF = {"bfloat16": tf.bfloat16, "float16": tf.float16}
# Operations with a kernel as second input -> the axes of the kernel over which one channel extends.
KERNELS = {"Conv2D": (0, 1, 2), "DepthwiseConv2dNative": (0, 1), "MatMul": (0,)}
# What gains from 16 bits, and what may follow it: sums, means and exponentials are not among it.
GAINS = {*KERNELS, "BatchMatMulV2", "Einsum", "Conv2DBackpropInput"}
FOLLOWS = re.compile(
    "Add(V2|N)?|Sub|Mul|Neg|Maximum|Minimum|BiasAdd|Relu6?|LeakyRelu|S?Elu|Sigmoid|Tanh|Softplus|Identity|(Mirror)?Pad(V2)?|"
    "MaxPool|ConcatV2|Reshape|Squeeze|ExpandDims|Transpose|(Strided)?Slice|Split(V)?|DepthToSpace|SpaceToDepth"
)


def rewrite(graph: tf.Graph, fed, fetched, precision: str):
    """A graph with its constants folded, its strides early, its arithmetic in `precision`; inputs and outputs keep their types.

    Args:
        graph: A graph without variables.
        fed: Names of the tensors that go in.
        fetched: Names of the tensors that come out.
        precision: "float32"; "bfloat16" or "float16", for all but what they would harm; "int8", the kernels in 8 bits.

    Returns:
        A `GraphDef`.
    """
    graph_def = _optimized(_with_plain_sums(graph), fed, fetched, CLEAN)
    graph_def.node.extend(strides.hoist(list(_in_order(graph_def)), fetched))
    if precision == "int8":
        _quantize_kernels(graph_def)
    if precision in HALF:
        graph_def = _optimized(_halved(graph_def, fetched, HALF[precision]), fed, fetched, CLEAN)
    return graph_def


def _with_plain_sums(graph):
    """The graph as a `GraphDef`, with `AddN` for sums that broadcast nothing.

    TensorFlow fuses a convolution with its bias, a residual sum and an activation only if it knows that the shapes are
    equal. With a free batch it does not, except of the operands of `AddN`, which must have one shape.
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


def _halved(graph_def, fetched, kind):
    """A copy in which convolutions, products and what follows them compute in 16 bits, with casts where the two meet.

    What stands before the first convolution stays in float32, and so do the tensors that are fetched.
    """
    result, half, casts = tf.compat.v1.GraphDef(versions=graph_def.versions, library=graph_def.library), set(), {}
    kept = {node_of(name) for name in fetched}
    constants = {node.name for node in graph_def.node if node.op == "Const"}

    def cast(name, target):
        if (name, target) not in casts:
            new = result.node.add(name=f"{name.replace(':', '_')}/{target.name}", op="Cast", input=[name])
            new.attr["SrcT"].type = (tf.float32 if target == kind else kind).as_datatype_enum
            new.attr["DstT"].type = target.as_datatype_enum
            casts[name, target] = new.name
        return casts[name, target]

    for node in _in_order(graph_def):
        node = tf.compat.v1.NodeDef.FromString(node.SerializeToString())
        sources = [node_of(name) for name in node.input]
        wanted = node.op in GAINS or (FOLLOWS.fullmatch(node.op) and not half.isdisjoint(set(sources) - constants))
        if wanted and node.attr["T"].type == tf.float32.as_datatype_enum and node.name not in kept:
            for index in _typed_inputs(node):
                if sources[index] not in half:
                    node.input[index] = cast(node.input[index], kind)
            half.add(node.name)
            node.attr["T"].type = kind.as_datatype_enum
        else:
            for index, name in enumerate(node.input):
                if sources[index] in half and not name.startswith("^"):
                    node.input[index] = cast(name, tf.float32)
        result.node.append(node)
    return result


def _typed_inputs(node):
    """Which inputs of a node have its type `T`."""
    index = 0
    for argument in op_def_registry.get(node.op).input_arg:
        count = node.attr[argument.number_attr].i if argument.number_attr else 1
        if argument.type_attr == "T":
            yield from range(index, index + count)
        index += count


def _in_order(graph_def):
    """The nodes, each behind those that it takes its inputs from."""
    nodes, done, waiting = {node.name: node for node in graph_def.node}, set(), [node.name for node in graph_def.node]
    while waiting:
        name = waiting.pop()
        before = [] if name in done else [node_of(one) for one in nodes[name].input if node_of(one) not in done]
        if before:
            waiting += [name, *before]
        elif name not in done:
            done.add(name)
            yield nodes[name]


def _optimized(graph_def, fed, fetched, passes):
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
        meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=graph_def, graph=graph)
    names = [node_of(name) for name in (*fed, *fetched)]
    meta_graph.collection_def["train_op"].CopyFrom(
        meta_graph_pb2.CollectionDef(node_list=meta_graph_pb2.CollectionDef.NodeList(value=names))
    )
    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.min_graph_nodes = -1  # small graphs too
    options.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
    options.optimizers.extend(passes)
    return tf_optimizer.OptimizeGraph(config, meta_graph)


def _quantize_kernels(graph_def):
    """Replace each kernel by whole numbers from -127 to 127 times a scale for each of its channels."""
    constants = {node.name: node for node in graph_def.node if node.op == "Const"}
    kernels = {node.input[1]: KERNELS[node.op] for node in graph_def.node if node.op in KERNELS}
    for name in kernels.keys() & constants.keys():
        kernel = tf.make_ndarray(constants[name].attr["value"].tensor)
        largest = np.abs(kernel).max(kernels[name], keepdims=True)
        scale = (np.where(largest, largest, 1) / 127).astype("float32")
        graph_def.node.remove(constants[name])
        with tf.Graph().as_default() as graph:
            whole = tf.constant(np.round(kernel / scale).astype("int8"), name=f"{name}/int8")
            tf.multiply(
                tf.cast(whole, tf.float32, name=f"{name}/float"), tf.constant(scale, name=f"{name}/scale"), name
            )
        graph_def.node.extend(graph.as_graph_def().node)
