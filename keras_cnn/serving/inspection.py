"""What a SavedModel holds and may do, read from its files alone: nothing of it is loaded or run.

A SavedModel is a program. Most operations only compute; some read or write files, reach the network or run other code. An
operation is taken for harmless if TensorFlow knows it, its name is not in the list of those that reach beyond the graph,
and it either keeps no state or is among the usual ones that do. That is a check of what a model asks for, not a sandbox: a
model from a stranger can still use up memory and time, or make use of a fault in a kernel of TensorFlow.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

READS, WRITES, NETWORK, CODE = "reads files", "writes files", "reaches the network", "runs other code"
# By parts of the names of operations.
REACHING = {
    READS: "ReadFile MatchingFiles ImmutableConst TextFile Record TextLine FixedLength WholeFile LMDB CSV Sql Restore "
    "LoadDataset ListDataset Checkpoint LoadAndRemap Skipgram FixedUnigram Snapshot",
    WRITES: "WriteFile CacheDataset Save Summary Print Debug DumpTensor FileSystem",
    NETWORK: "DataService Remote Rpc Send Recv Collective Nccl BigQuery Bigtable TPU RegisterDataset",
    CODE: "PyFunc XlaHost XlaCallModule DecodeProto EncodeProto CustomCall GeneratorDataset FromGraph",
}
# Operations that keep state and no more: control flow, variables, tables, data sets from tensors, random numbers.
STATEFUL = re.compile(
    r"(Stateful|Stateless)?(PartitionedCall|If|While|Case)|Placeholder\w*|Assert|NoOp|\w*Var(iable)?\w*|\w*Assign\w*|"
    r"\w*HashTable\w*|LookupTable\w*|InitializeTable(V2|FromDataset(V2)?)|TensorArray\w*|TensorList\w*|Stack\w*|"
    r"Resource(Gather|Scatter)\w*|(TensorSlice|Tensor|Range|Reduce|Shuffle|Random)\w*Dataset\w*|DatasetToSingleElement|"
    r"Shuffle\w*Dataset\w*|\w*Iterator\w*|\w*(Random|Uniform|Normal|SeedGenerator|Bounding)\w*|CheckNumerics\w*|CudnnRNN\w*|"
    r"ParallelConcat\w*|Empty|IsTensorFloat32Enabled|DeviceIndex|Resource\w*Apply\w*|_Arg|_Retval|GuaranteeConst"
)
# What TensorFlow itself writes into every SavedModel, to save and to restore its variables: no signature may reach it.
SAVING = {"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename"}
TRAINING = re.compile(r".*(Random|Backprop|Grad|Apply|AssignAdd|AssignSub).*")
ABSOLUTE = re.compile(r"(file:/)?/[^/\0]+/|[A-Za-z]:\\")


@dataclass(frozen=True)
class Inspection:
    """What the files of a SavedModel say.

    Attributes:
        path: The SavedModel.
        signatures: Name -> `{"inputs": {name: "uint8 [?, 224, 224, 3]"}, "outputs": …}`.
        operations: Operation -> how often it stands in the graph and its functions.
        suspicious: Sentences on what it may do beyond computing; empty for a model that only computes.
        training: Operations of training that a signature reaches, such as gradients or random numbers.
        absolute_paths: Texts in the graph that look like paths of the machine it was made on.
        compiled: Number of functions that XLA must compile.
        files: Path within the folder -> bytes.
        tensorflow: Version that wrote it.
    """

    path: str
    signatures: dict
    operations: dict
    suspicious: tuple[str, ...]
    training: tuple[str, ...]
    absolute_paths: tuple[str, ...]
    compiled: int
    files: dict
    tensorflow: str

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


def inspect(path) -> Inspection:
    """Read a SavedModel without loading it.

    Raises:
        FileNotFoundError: If there is no such folder, or it is no SavedModel.
        ValueError: If its `saved_model.pb` cannot be read.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    path = existing(path)
    try:
        saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    except DecodeError:
        raise ValueError(f"inspect: {path / 'saved_model.pb'} must be a SavedModel. Received: other content.") from None
    if len(saved.meta_graphs) != 1:
        found = len(saved.meta_graphs)
        raise ValueError(f"inspect: the SavedModel {path} must hold one graph. Received: {found}.")
    (meta,) = saved.meta_graphs
    graph = _Graph(meta)
    return Inspection(
        path=str(path),
        signatures={
            name: _signature(one)
            for name, one in sorted(meta.signature_def.items())
            if not name.startswith("__saved_model")  # TensorFlow's own, which it runs when it loads the model
        },
        operations=dict(Counter(node.op for node in graph.nodes()).most_common()),
        suspicious=tuple(graph.suspicious()),
        training=tuple(sorted(op for op in graph.reached() if TRAINING.fullmatch(op))),
        absolute_paths=tuple(sorted(graph.absolute_paths(_labels(path)))),
        compiled=sum(function.attr["_XlaMustCompile"].b for function in meta.graph_def.library.function),
        files={str(file.relative_to(path)): file.stat().st_size for file in sorted(path.rglob("*")) if file.is_file()},
        tensorflow=meta.meta_info_def.tensorflow_version,
    )


def existing(path) -> Path:
    """The SavedModel at `path`, or its highest version if it is a folder of versions.

    Raises:
        FileNotFoundError: If there is none; the text says what is there instead.
    """
    from keras_cnn.serving.folder import highest_version

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"The SavedModel {path} does not exist.")
    highest = 0 if (path / "saved_model.pb").is_file() else highest_version(path)
    found = path / str(highest) if highest else path
    if not (found / "saved_model.pb").is_file():
        raise FileNotFoundError(
            f"The SavedModel must be a folder with a saved_model.pb. Received: {path}, without one."
        )
    return found


class _Graph:
    """The graph of a SavedModel with its functions."""

    def __init__(self, meta):
        self.meta = meta
        self.functions = {function.signature.name: function for function in meta.graph_def.library.function}

    def nodes(self):
        yield from self.meta.graph_def.node
        for function in self.functions.values():
            yield from function.node_def

    def reached(self) -> set[str]:
        """The operations that the signatures reach, and those that run when the model is loaded."""
        starts = {tensor.name for one in self.meta.signature_def.values() for tensor in one.outputs.values()}
        for collection in self.meta.collection_def.values():
            starts.update(collection.node_list.value)
        by_name = {node.name: node for node in self.meta.graph_def.node}
        waiting, nodes = [node_of(name) for name in starts], {}
        while waiting:
            name = waiting.pop()
            if name in by_name and name not in nodes:
                nodes[name] = by_name[name]
                waiting += map(node_of, by_name[name].input)
        return self._with_functions(nodes.values())

    def _with_functions(self, nodes):
        """The operations of these nodes and of the functions that they call, at any depth."""
        waiting, seen, found = list(nodes), set(), set()
        while waiting:
            node = waiting.pop()
            found.add(node.op)
            called = {value.func.name for value in node.attr.values() if value.func.name}
            called |= {one.name for value in node.attr.values() for one in value.list.func}
            for name in (called | {node.op}) & self.functions.keys() - seen:
                seen.add(name)
                waiting += self.functions[name].node_def
        return found

    def suspicious(self):
        """Sentences on operations that do more than compute, and on files outside of the folder."""
        everywhere, reached = {node.op for node in self.nodes()} - self.functions.keys(), self.reached()
        for operation in sorted(everywhere):
            effect = _effect(operation)
            if effect and (operation not in SAVING or operation in reached):
                where = "" if operation in reached else ", in a part that no signature reaches"
                yield f"{operation} {effect}{where}"
        for asset in self.meta.asset_file_def:
            if Path(asset.filename).is_absolute() or ".." in Path(asset.filename).parts:
                yield f"an asset lies outside of the folder: {asset.filename!r}"

    def absolute_paths(self, labels):
        """Texts of the graph that begin like a path, those that are labels apart."""
        for node in self.nodes():
            for value in node.attr.values():
                texts = [value.s, *value.list.s, *value.tensor.string_val]
                yield from (text for text in map(_text, texts) if ABSOLUTE.match(text) and text not in labels)


def _effect(operation):
    """What an operation does beyond computing; None if it only computes."""
    from tensorflow.python.framework import op_def_registry

    for effect, parts in REACHING.items():
        if any(part in operation for part in parts.split()):
            return effect
    definition = op_def_registry.get(operation)
    if definition is None:
        return "is no operation of TensorFlow"
    if definition.is_stateful and not STATEFUL.fullmatch(operation):
        return "keeps state in a way that is not known"
    return None


def _signature(definition):
    import tensorflow as tf

    def tensors(infos):
        return {
            name: f"{tf.as_dtype(info.dtype).name} [{', '.join(_side(dim) for dim in info.tensor_shape.dim)}]"
            for name, info in sorted(infos.items())
        }

    return {"inputs": tensors(definition.inputs), "outputs": tensors(definition.outputs)}


def _side(dim):
    return "?" if dim.size < 0 else str(dim.size)


def _labels(path):
    from keras_cnn.serving import card

    try:
        return set((path / card.LABELS).read_text(encoding="utf-8").split("\n"))
    except (OSError, UnicodeDecodeError):
        return set()


def node_of(name):
    """The node that a tensor, or a control input, comes from."""
    return name.removeprefix("^").split(":")[0]


def _text(content):
    return content.decode("utf-8", "replace")
