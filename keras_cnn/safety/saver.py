"""Where a graph may read and write files: in the saver that TensorFlow writes into every SavedModel, and nowhere else.

TensorFlow adds a function or some nodes that write all variables to a file whose name is passed to them, and others that read
them. `SaverDef` names these. A model that only computes has such operations only there: with no other file name than the one
that is passed, and where nothing else in the file names what runs them, because anything with a name there may be run.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

EFFECTS = {"SaveV2": "writes files", "MergeV2Checkpoints": "writes files", "RestoreV2": "reads files"}
WRITING = frozenset(EFFECTS) - {"RestoreV2"}
FILE_NAME_INPUTS = {"SaveV2": 1, "RestoreV2": 1, "MergeV2Checkpoints": 2}  # how many of the first inputs are file names
# Operation -> the inputs that its output, a file name, is made of.
FORWARDING = {
    "Identity": slice(0, 1),
    "Pack": slice(None),
    "StringJoin": slice(None),
    "Select": slice(1, 3),
    "SelectV2": slice(1, 3),
    "ShardedFilename": slice(0, 1),
}
# What TensorFlow appends to a file name.
SUFFIX = re.compile(rb"\.?part|_temp(_[0-9a-f]{32})?/part")
CALLS = ("PartitionedCall", "StatefulPartitionedCall")
PLACEHOLDERS = ("Placeholder", "PlaceholderWithDefault")
MAIN = None  # the graph itself, among its functions; the name of a function may be ""


def misuses(meta: Any) -> Iterator[str]:
    """Sentences on operations of the saver that do not belong to it, or that something else may run, too."""
    graph = _Graph(meta)
    present = {node.op for body in graph.bodies.values() for node in body} & EFFECTS.keys()
    reached = graph.named_elsewhere(graph.running(present)) if present else False
    for operation in sorted(present):
        if reached:
            yield f"{operation} {EFFECTS[operation]}, and something else than the saver can run it"
        if not all(map(graph.is_saver_input, graph.file_names(operation))):
            yield f"{operation} {EFFECTS[operation]} under a name that is not passed to the saver"
    if restored := graph.dependencies(node_of(meta.saver_def.restore_op_name)):
        if restored & graph.running(WRITING)[0]:
            yield "the saver writes files when it should read them"
        names = {name for name in graph.file_names("RestoreV2") if name not in (graph.file_name, None)}
        if restored & {node_of(name) for name in names if name}:
            yield "RestoreV2 reads files under a name that is not passed to the saver"


def node_of(name: str) -> str:
    """The node that a tensor, or a control input, comes from."""
    return name.removeprefix("^").split(":")[0]


class _Graph:
    """A graph and its functions.

    Attributes:
        bodies: Function, or `MAIN` -> its nodes.
        called: Function, or `MAIN` -> for each of its nodes the operation, and all texts that could name a function.
        nodes: Function, or `MAIN` -> its nodes by name.
        file_name: The tensor that is fed with the file name that is passed to the saver.
    """

    def __init__(self, meta: Any):
        library = meta.graph_def.library.function
        self.meta = meta
        self.functions = {function.signature.name: function for function in library}
        self.bodies: dict[str | None, Any] = {MAIN: meta.graph_def.node} | {
            name: one.node_def for name, one in self.functions.items()
        }
        self.called = {name: list(map(_called, body)) for name, body in self.bodies.items()}
        self.nodes = {name: {node.name: node for node in body} for name, body in self.bodies.items()}
        self.file_name = _tensor(meta.saver_def.filename_tensor_name)

    def running(self, wanted: Iterable[str]) -> tuple[set[str], set[str]]:
        """Nodes of the main graph, and functions, that run one of the operations `wanted` or need its output."""
        wanted = set(wanted)
        functions: set[str] = set()
        grown = set(wanted)
        while grown:
            names = functions | wanted
            grown = {name for name in self.functions if not names.isdisjoint(self._mentioned(name))} - functions
            functions |= grown
        consumers: dict[str, set[str]] = defaultdict(set)
        for node in self.bodies[MAIN]:
            for name in node.input:
                consumers[node_of(name)].add(node.name)
        main = zip(self.bodies[MAIN], self.called[MAIN], strict=True)
        starts = {node.name for node, called in main if not called.isdisjoint(functions | wanted)}
        return _reachable(starts, consumers.__getitem__), functions

    def _mentioned(self, function: str) -> set[str]:
        """Operations of a function, and all texts in it that could name another function."""
        return set().union(*self.called[function], *map(_names, self.functions[function].attr.values()))

    def dependencies(self, name: str) -> set[str]:
        """Nodes of the main graph that run when this one does."""
        nodes = self.nodes[MAIN]
        return _reachable(
            {name} & nodes.keys(), lambda one: {node_of(each) for each in nodes[one].input} & nodes.keys()
        )

    def named_elsewhere(self, running: tuple[set[str], set[str]]) -> bool:
        """Whether anything in the file except nodes, functions and the saver names one of these nodes and functions.

        The bytes are searched: signatures, collections, objects and gradients name what they run in many ways.
        """
        rest = type(self.meta)()
        rest.CopyFrom(self.meta)
        rest.ClearField("saver_def")
        rest.meta_info_def.ClearField("stripped_op_list")
        rest.graph_def.ClearField("node")
        rest.graph_def.library.ClearField("function")
        if rest.collection_def["savers"].WhichOneof("kind") in ("bytes_list", None):  # descriptions of savers
            del rest.collection_def["savers"]
        content = rest.SerializeToString()
        nodes, functions = running
        # TensorFlow replaces a function by another one that claims to implement the same.
        replaceable = any(key.startswith("api_") for name in functions for key in self.functions[name].attr)
        return replaceable or any(name.encode() in content for name in nodes | functions)

    def file_names(self, operation: str) -> set[str | None]:
        """The tensors of the main graph that the operation takes its file names from; None for anything else."""
        found: set[str | None] = set()
        for body, nodes in self.bodies.items():
            for node in nodes:
                if node.op == operation:
                    for name in node.input[: FILE_NAME_INPUTS[operation]]:
                        found |= self._origins(body, name, operation, set()) or {None}
        return found

    def is_saver_input(self, tensor: str | None) -> bool:
        """Whether a tensor is fed with a file name, for the saver of this graph or for an older one that is still in it."""
        node = self.nodes[MAIN].get(node_of(tensor or ""))
        return tensor is not None and (tensor == self.file_name or (node is not None and node.op in PLACEHOLDERS))

    def _origins(self, body: str | None, tensor: str, operation: str, seen: set[tuple]) -> set[str | None]:
        """The tensors of the main graph that a tensor takes its file name from; None for anything else."""
        if (body, tensor) in seen:
            return set()
        seen.add((body, tensor))
        node = self.nodes[body].get(node_of(tensor))
        if body is not MAIN and tensor in self._plain_arguments(body):
            return self._passed_by_callers(body, tensor, operation, seen) if node is None else {None}
        if body is MAIN and (_tensor(tensor) == self.file_name or node is None or node.op in PLACEHOLDERS):
            return {_tensor(tensor)}
        if node is None or (operation == "RestoreV2" and node.op != "Identity"):
            return {None}
        if node.op == "Const":
            return set() if all(map(SUFFIX.fullmatch, _texts(node.attr["value"].tensor))) else {None}
        inputs = [name for name in node.input if not name.startswith("^")][FORWARDING.get(node.op, slice(0))]
        return set().union(*(self._origins(body, name, operation, seen) for name in inputs)) if inputs else {None}

    def _plain_arguments(self, function: str) -> list[str]:
        """The names of a function's arguments if each stands for one tensor; else none."""
        arguments = self.functions[function].signature.input_arg
        several = any(one.number_attr or one.type_list_attr for one in arguments)
        return [] if several else [one.name for one in arguments]

    def _passed_by_callers(self, function: str, argument: str, operation: str, seen: set[tuple]) -> set[str | None]:
        """`_origins` of what the callers of a function pass to one of its arguments."""
        index = self._plain_arguments(function).index(argument)
        found: set[str | None] = set()
        for body, nodes in self.bodies.items():
            for node, called in zip(nodes, self.called[body], strict=True):
                if function not in called:
                    continue
                plain = node.op == function or (node.op in CALLS and node.attr["f"].func.name == function)
                fits = plain and index < len(node.input) and not node.input[index].startswith("^")
                found |= self._origins(body, node.input[index], operation, seen) if fits else {None}
        return found


def _reachable(starts: Iterable[str], neighbours: Callable[[str], set[str]]) -> set[str]:
    """`starts` and everything that can be reached from them."""
    found, waiting = set(starts), list(starts)
    while waiting:
        new = neighbours(waiting.pop()) - found
        found |= new
        waiting += new
    return found


def _called(node: Any) -> set[str]:
    """The operation of a node, and all texts in it that could name a function."""
    return {node.op}.union(*map(_names, node.attr.values()))


def _names(value: Any) -> set[str]:
    """All texts of an attribute that could name a function."""
    found = {text.decode("utf-8", "replace") for text in (value.s, *value.list.s)}
    for function in (value.func, *value.list.func):
        found |= {function.name}.union(*map(_names, function.attr.values()))
    return found


def _tensor(name: str) -> str:
    """The name of a tensor of the main graph with the index of the output."""
    return name if ":" in name else f"{name}:0"


def _texts(tensor: Any) -> list[bytes]:
    """The texts of a constant; if they are not stored as texts, one that TensorFlow never appends to a file name."""
    return [b"?"] if tensor.tensor_content or not tensor.string_val else tensor.string_val
