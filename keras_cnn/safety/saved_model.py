"""The files of a SavedModel and the graphs in them, read without loading the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from keras_cnn.safety import operations, saver

FILE = "saved_model.pb"
ASSETS = "saved_model_assets"  # where TensorFlow 1 lists them


def read(directory: Path) -> Any:
    """The `SavedModel` message in a folder.

    Raises:
        FileNotFoundError: If there is no saved_model.pb.
        ValueError: If it cannot be read.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    file = directory / FILE
    if not file.is_file():
        raise FileNotFoundError(f"The SavedModel must be a folder with a {FILE}. Received: {directory}, without one.")
    try:
        return saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except DecodeError:
        raise ValueError(f"{file} must be a SavedModel. Received: other content.") from None


def suspicions(saved: Any, directory: Path) -> tuple[str, ...]:
    """Sentences on what the SavedModel `saved` in `directory` may do beyond computing; empty if nothing."""
    found = [*_check_operations(saved), *_check_format(saved), *_check_files(directory)]
    for meta in saved.meta_graphs:
        found += [*saver.misuses(meta), *_check_names(meta), *_check_assets(meta)]
    return tuple(dict.fromkeys(found))


def nodes_of(meta: Any) -> Iterator[Any]:
    """The nodes of a graph and of all its functions."""
    yield from meta.graph_def.node
    for function in meta.graph_def.library.function:
        yield from function.node_def


def _check_operations(saved: Any) -> Iterator[str]:
    for operation in sorted({name for meta in saved.meta_graphs for name in _operations(meta)}):
        if effect := operations.effect(operation):
            known = operation in operations.classes()  # a name that somebody else has chosen may contain anything
            yield f"{operation if known else repr(operation)} {effect}"


def _operations(meta: Any) -> Iterator[str]:
    """The operations of the graph, without calls of its own functions, and those whose gradients it uses."""
    functions = {function.signature.name for function in meta.graph_def.library.function}
    for node in nodes_of(meta):
        if node.op not in functions or node.op in operations.classes():
            yield node.op
        if "_gradient_op_type" in node.attr:
            name = node.attr["_gradient_op_type"].s.decode("utf-8", "replace")
            yield from {name} & operations.classes().keys()


def _check_format(saved: Any) -> Iterator[str]:
    """The installed TensorFlow ignores fields that it does not know; another TensorFlow may not."""
    size = saved.ByteSize()
    saved.DiscardUnknownFields()
    if saved.ByteSize() != size:
        yield f"{FILE} holds fields that this TensorFlow does not know"


def _check_names(meta: Any) -> Iterator[str]:
    """Names that stand for two things: this check and TensorFlow could each look at another one."""
    functions = meta.graph_def.library.function
    for body in (meta.graph_def.node, *(function.node_def for function in functions)):
        yield from (f"two nodes have the name {name!r}" for name in _repeated(node.name for node in body))
    names = [function.signature.name for function in functions]
    yield from (f"two functions have the name {name!r}" for name in _repeated(names))
    for name in sorted(set(names) & operations.classes().keys()):
        yield f"a function has the name of the operation {name}"


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _check_assets(meta: Any) -> Iterator[str]:
    from tensorflow.core.protobuf import meta_graph_pb2

    assets = list(meta.asset_file_def)
    if ASSETS in meta.collection_def:
        for value in meta.collection_def[ASSETS].any_list.value:
            asset = meta_graph_pb2.AssetFileDef()
            value.Unpack(asset)
            assets.append(asset)
    for name in (asset.filename for asset in assets):
        parts = name.replace("\\", "/").split("/")
        if ":" in name or {"..", ""} & set(parts):  # "" is the root, or an empty name
            yield f"an asset lies outside of the folder: {name!r}"


def _check_files(directory: Path) -> Iterator[str]:
    inside = directory.resolve()
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if not path.resolve().is_relative_to(inside):
            yield f"{name!r} is a link to a place outside of the folder"
        elif not (path.is_file() or path.is_dir()):
            yield f"{name!r} is neither a file nor a folder"
    for path in sorted(directory.glob("saved_model.*")):
        if path.name != FILE:
            yield f"{path.name!r} is next to {FILE}, and other programs may load it instead"
