"""What a SavedModel contains and may do, read from its files alone: nothing of it is loaded or run.

A SavedModel is a program. Most operations only compute; some read or write files, reach the network or run other code.
`keras_cnn.safety` says which, and what else makes a model suspicious.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keras_cnn import safety
from keras_cnn.safety import node_of
from keras_cnn.serving import layout, model_card

TRAINING_OPERATION = re.compile(r".*(Random|Backprop|Grad|Apply|AssignAdd|AssignSub).*")
ABSOLUTE_PATH = re.compile(r"(file:/)?/[^/\0]+/|[A-Za-z]:\\")


@dataclass(frozen=True)
class Inspection:
    """What the files of a SavedModel say.

    Attributes:
        path: The SavedModel.
        signatures: Name -> `{"inputs": {name: "uint8 [?, 224, 224, 3]"}, "outputs": …}`.
        operations: Operation -> how often it occurs in the graph and its functions.
        suspicious: Sentences on what it may do beyond computing; empty for a model that only computes.
        training_operations: Operations of training that a signature reaches, such as gradients or random numbers.
        absolute_paths: Texts in the graph that look like paths of the machine that made it.
        compiled_functions: Number of functions that XLA must compile.
        files: Path within the folder -> bytes.
        tensorflow_version: The TensorFlow that wrote it.
    """

    path: str
    signatures: dict[str, dict[str, dict[str, str]]]
    operations: dict[str, int]
    suspicious: tuple[str, ...]
    training_operations: tuple[str, ...]
    absolute_paths: tuple[str, ...]
    compiled_functions: int
    files: dict[str, int]
    tensorflow_version: str

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def inspect(path: str | Path) -> Inspection:
    """Read a SavedModel without loading it.

    Args:
        path: A version, or the folder of versions, of which the highest is read.

    Raises:
        FileNotFoundError: If there is no such folder, or it is not a SavedModel.
        ValueError: If its `saved_model.pb` cannot be read.
    """
    path = find_saved_model(path)
    saved = safety.read(path)
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
        operations=dict(Counter(node.op for node in safety.nodes_of(meta)).most_common()),
        suspicious=safety.suspicions(saved, path),
        training_operations=tuple(
            sorted(op for op in graph.reachable_operations() if TRAINING_OPERATION.fullmatch(op))
        ),
        absolute_paths=tuple(sorted(graph.absolute_paths(_labels(path)))),
        compiled_functions=sum(function.attr["_XlaMustCompile"].b for function in meta.graph_def.library.function),
        files={str(file.relative_to(path)): file.stat().st_size for file in sorted(path.rglob("*")) if file.is_file()},
        tensorflow_version=meta.meta_info_def.tensorflow_version,
    )


def find_saved_model(path: str | Path) -> Path:
    """The SavedModel at `path`, or its highest version if it is a folder of versions.

    Raises:
        FileNotFoundError: If there is none; the message says what is there instead.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"The SavedModel {path} does not exist.")
    highest = 0 if (path / "saved_model.pb").is_file() else layout.highest_version(path)
    found = path / str(highest) if highest else path
    if not (found / "saved_model.pb").is_file():
        raise FileNotFoundError(
            f"The SavedModel must be a folder with a saved_model.pb. Received: {path}, without one."
        )
    return found


class _Graph:
    """The graph of a SavedModel with its functions."""

    def __init__(self, meta: Any):
        self.meta = meta
        self.functions = {function.signature.name: function for function in meta.graph_def.library.function}

    def reachable_operations(self) -> set[str]:
        """The operations that a signature can run, and those that run when the model is loaded."""
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

    def _with_functions(self, nodes: Iterable) -> set[str]:
        """The operations of these nodes and of the functions that they call, at any depth."""
        waiting = list(nodes)
        seen: set[str] = set()
        found: set[str] = set()
        while waiting:
            node = waiting.pop()
            found.add(node.op)
            called = {value.func.name for value in node.attr.values() if value.func.name}
            called |= {one.name for value in node.attr.values() for one in value.list.func}
            for name in (called | {node.op}) & self.functions.keys() - seen:
                seen.add(name)
                waiting += self.functions[name].node_def
        return found

    def absolute_paths(self, labels: Collection[str]) -> Iterator[str]:
        """Texts in the graph that begin like a path and are not labels."""
        for node in safety.nodes_of(self.meta):
            for value in node.attr.values():
                texts = [value.s, *value.list.s, *value.tensor.string_val]
                yield from (text for text in map(_text, texts) if ABSOLUTE_PATH.match(text) and text not in labels)


def _signature(definition: Any) -> dict[str, dict[str, str]]:
    import tensorflow as tf

    def tensors(infos: Any) -> dict[str, str]:
        return {
            name: f"{tf.as_dtype(info.dtype).name} [{', '.join(_format_size(dim) for dim in info.tensor_shape.dim)}]"
            for name, info in sorted(infos.items())
        }

    return {"inputs": tensors(definition.inputs), "outputs": tensors(definition.outputs)}


def _format_size(dim: Any) -> str:
    return "?" if dim.size < 0 else str(dim.size)


def _labels(path: Path) -> set[str]:
    try:
        return set((path / model_card.LABELS).read_text(encoding="utf-8").split("\n"))
    except (OSError, UnicodeDecodeError):
        return set()


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")
