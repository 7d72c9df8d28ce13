"""Layers by name or by a path such as "backbone/conv1", and the calls before them."""

from __future__ import annotations

import difflib
from typing import Any

import keras

from keras_cnn import arguments
from keras_cnn.surgery.graph import graph_of, nodes_of


def operations_by_path(graph: Any, prefix: str = "") -> dict[str, Any]:
    """Path -> layer or operation, for all calls in a graph and in those nested in it, in the order of computation."""
    found: dict[str, Any] = {}
    for node in nodes_of(graph):
        path = f"{prefix}{node.operation.name}"
        if graph_of(node.operation) is not None:
            found |= operations_by_path(graph_of(node.operation), f"{path}/")
        found[path] = node.operation
    return found


def find_path(owner: str, argument: str, graph: Any, name: str) -> str:
    """The path of the layer called `name`: a path itself, or the end of a single path.

    Raises:
        ValueError: If there is no such layer, or several.
    """
    known = operations_by_path(graph)
    matches = [path for path in known if path == name] or [path for path in known if path.endswith(f"/{name}")]
    if len(matches) == 1:
        return matches[0]
    if matches:
        expected = "one layer of the model"
        remedy = f"These have that name: {', '.join(sorted(matches))}. Give one of these paths."
    else:
        stages = [path for path, layer in known.items() if isinstance(layer, keras.layers.Identity)]
        expected = f"a layer of the model, such as {', '.join((stages or list(known))[:8])}"
        endings = {ending: path for path in known for ending in (path.rsplit("/", 1)[-1], path)}
        close = difflib.get_close_matches(str(name), endings, n=1)
        remedy = f"Did you mean {endings[close[0]]!r}?" if close else ""
    raise ValueError(arguments.message(owner, argument, expected, name, remedy))


def upstream_nodes(graph: Any, nodes: list[Any]) -> list[Any]:
    """The calls in a graph that some calls depend on, without those calls, in the order of computation."""
    needed = {id(x) for node in nodes for x in node.input_tensors}
    found: list[Any] = []
    for node in reversed(list(nodes_of(graph))):
        if any(id(x) in needed for x in node.outputs):
            needed.update(id(x) for x in node.input_tensors)
            found.insert(0, node)
    return found
