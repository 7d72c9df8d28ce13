"""Where a graph may read and write files: in the saver that TensorFlow writes into every SavedModel, and nowhere else.

TensorFlow puts in a function or a few nodes that write all variables under a name that is handed to them, and others that read
them. `SaverDef` names them. A model that only computes has these operations there alone: under no other name than the one
that is handed over, and where nothing else in the file names what runs them, for whatever has a name there may be run.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

EFFECTS = {"SaveV2": "writes files", "MergeV2Checkpoints": "writes files", "RestoreV2": "reads files"}
WRITING = frozenset(EFFECTS) - {"RestoreV2"}
NAMES = {"SaveV2": 1, "RestoreV2": 1, "MergeV2Checkpoints": 2}  # how many of its first inputs are names of files
# Operation -> which of its inputs its output, a name of a file, is made of.
PASSING = {
    "Identity": slice(0, 1),
    "Pack": slice(None),
    "StringJoin": slice(None),
    "Select": slice(1, 3),
    "SelectV2": slice(1, 3),
    "ShardedFilename": slice(0, 1),
}
APPENDED = re.compile(rb"\.?part|_temp(_[0-9a-f]{32})?/part")  # by TensorFlow, to the name of a file
CALLS = ("PartitionedCall", "StatefulPartitionedCall")
PLACEHOLDERS = ("Placeholder", "PlaceholderWithDefault")
MAIN = None  # the graph itself, among its functions; they have names, be it ""


def misuses(meta) -> Iterator[str]:
    """Sentences on operations of the saver that are not the saver's, or that more than the saver may run."""
    graph = _Graph(meta)
    present = {node.op for body in graph.bodies.values() for node in body} & EFFECTS.keys()
    reached = graph.named_elsewhere(graph.running(present)) if present else False
    for operation in sorted(present):
        if reached:
            yield f"{operation} {EFFECTS[operation]}, and not the saver alone can run it"
        if not all(map(graph.is_the_savers, graph.names_of_files(operation))):
            yield f"{operation} {EFFECTS[operation]} under a name that is not handed to the saver"
    if restored := graph.needed(node_of(meta.saver_def.restore_op_name)):
        if restored & graph.running(WRITING)[0]:
            yield "the saver writes files when it should read them"
        names = graph.names_of_files("RestoreV2") - {graph.file_name, None}
        if restored & set(map(node_of, names)):
            yield "RestoreV2 reads files under a name that is not handed to the saver"


def node_of(name: str) -> str:
    """The node that a tensor, or a control input, comes from."""
    return name.removeprefix("^").split(":")[0]


class _Graph:
    """A graph and its functions.

    Attributes:
        bodies: Function, or `MAIN` -> its nodes.
        called: Function, or `MAIN` -> of each of its nodes the operation, and all that could be the name of a function.
        file_name: The tensor that is fed with the name that is handed to the saver.
    """

    def __init__(self, meta):
        library = meta.graph_def.library.function
        self.meta = meta
        self.functions = {function.signature.name: function for function in library}
        self.bodies = {MAIN: meta.graph_def.node} | {name: one.node_def for name, one in self.functions.items()}
        self.called = {name: list(map(_called, body)) for name, body in self.bodies.items()}
        self.nodes = {name: {node.name: node for node in body} for name, body in self.bodies.items()}
        self.file_name = _tensor(meta.saver_def.filename_tensor_name)

    def running(self, wanted) -> tuple[set[str], set[str]]:
        """Nodes of the main graph, and functions, that run one of the operations `wanted` or need what it gives."""
        functions, grown = set(), set(wanted)
        while grown:
            names = functions | set(wanted)
            grown = {name for name in self.functions if not names.isdisjoint(self._mentioned(name))} - functions
            functions |= grown
        consumers = defaultdict(set)
        for node in self.bodies[MAIN]:
            for name in node.input:
                consumers[node_of(name)].add(node.name)
        main = zip(self.bodies[MAIN], self.called[MAIN], strict=True)
        starts = {node.name for node, called in main if not called.isdisjoint(functions | set(wanted))}
        return _spread(starts, consumers.__getitem__), functions

    def _mentioned(self, function):
        """Operations of a function, and all texts in it that could be the name of another one."""
        return set().union(*self.called[function], *map(_names, self.functions[function].attr.values()))

    def needed(self, name: str) -> set[str]:
        """Nodes of the main graph that run when this one does."""
        nodes = self.nodes[MAIN]
        return _spread({name} & nodes.keys(), lambda one: {node_of(each) for each in nodes[one].input} & nodes.keys())

    def named_elsewhere(self, running) -> bool:
        """Whether anything in the file apart from nodes, functions and the saver names one of these nodes and functions.

        Looked for in the bytes: signatures, collections, objects and gradients name what they run in many ways.
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
        # TensorFlow puts another function in the place of one that says it implements the same.
        exchanged = any(key.startswith("api_") for name in functions for key in self.functions[name].attr)
        return exchanged or any(name.encode() in content for name in nodes | functions)

    def names_of_files(self, operation: str) -> set[str | None]:
        """The tensors of the main graph that the operation takes the names of its files from; None for all else."""
        found = set()
        for body, nodes in self.bodies.items():
            for node in nodes:
                if node.op == operation:
                    for name in node.input[: NAMES[operation]]:
                        found |= self._origins(body, name, operation, set()) or {None}
        return found

    def is_the_savers(self, tensor: str | None) -> bool:
        """Whether it is fed with a name, by the saver of this graph or by another one that has been left in it."""
        node = self.nodes[MAIN].get(node_of(tensor or ""))
        return tensor is not None and (tensor == self.file_name or (node is not None and node.op in PLACEHOLDERS))

    def _origins(self, body, tensor, operation, seen):
        if (body, tensor) in seen:
            return set()
        seen.add((body, tensor))
        node = self.nodes[body].get(node_of(tensor))
        if body != MAIN and tensor in self._plain_arguments(body):
            return self._handed_over(body, tensor, operation, seen) if node is None else {None}
        if body == MAIN and (_tensor(tensor) == self.file_name or node is None or node.op in PLACEHOLDERS):
            return {_tensor(tensor)}
        if node is None or (operation == "RestoreV2" and node.op != "Identity"):
            return {None}
        if node.op == "Const":
            return set() if all(map(APPENDED.fullmatch, _texts(node.attr["value"].tensor))) else {None}
        inputs = [name for name in node.input if not name.startswith("^")][PASSING.get(node.op, slice(0))]
        return set().union(*(self._origins(body, name, operation, seen) for name in inputs)) if inputs else {None}

    def _plain_arguments(self, function):
        """Those of a function by name, if each stands for one tensor."""
        arguments = self.functions[function].signature.input_arg
        several = any(one.number_attr or one.type_list_attr for one in arguments)
        return [] if several else [one.name for one in arguments]

    def _handed_over(self, function, argument, operation, seen):
        """What the callers of a function hand to one of its arguments."""
        place, found = self._plain_arguments(function).index(argument), set()
        for body, nodes in self.bodies.items():
            for node, called in zip(nodes, self.called[body], strict=True):
                if function not in called:
                    continue
                plain = node.op == function or (node.op in CALLS and node.attr["f"].func.name == function)
                fits = plain and place < len(node.input) and not node.input[place].startswith("^")
                found |= self._origins(body, node.input[place], operation, seen) if fits else {None}
        return found


def _spread(starts, neighbours):
    """`starts` and all that can be reached from them."""
    found, waiting = set(starts), list(starts)
    while waiting:
        new = neighbours(waiting.pop()) - found
        found |= new
        waiting += new
    return found


def _called(node):
    """The operation of a node, and all texts in it that could be the name of a function."""
    return {node.op}.union(*map(_names, node.attr.values()))


def _names(value):
    found = {text.decode("utf-8", "replace") for text in (value.s, *value.list.s)}
    for function in (value.func, *value.list.func):
        found |= {function.name}.union(*map(_names, function.attr.values()))
    return found


def _tensor(name):
    """The name of a tensor of the main graph with the number of the output."""
    return name if ":" in name else f"{name}:0"


def _texts(tensor):
    """The texts of a constant; one that TensorFlow does not append if they are given in another way."""
    return [b"?"] if tensor.tensor_content or not tensor.string_val else tensor.string_val
