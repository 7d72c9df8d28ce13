"""Where a layer lies: names and paths such as "backbone/conv1", and what comes before."""

from __future__ import annotations

import difflib

import keras

from keras_cnn import arguments
from keras_cnn.surgery.graph import graph_of, nodes_of


def places(graph, prefix: str = "") -> dict:
    """Path -> layer or operation, of all calls in a graph and in those nested in it, in the order of computation."""
    found = {}
    for node in nodes_of(graph):
        path = f"{prefix}{node.operation.name}"
        if graph_of(node.operation) is not None:
            found |= places(graph_of(node.operation), f"{path}/")
        found[path] = node.operation
    return found


def find(owner: str, argument: str, graph, name: str) -> str:
    """The path of the layer called `name`: a path itself, or the end of one path only.

    Raises:
        ValueError: If there is no such layer, or several.
    """
    known = places(graph)
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


def before(graph, nodes) -> list:
    """The calls in a graph that some calls depend on, in the order of computation; they themselves are not among them."""
    needed, found = {id(x) for node in nodes for x in node.input_tensors}, []
    for node in reversed(list(nodes_of(graph))):
        if any(id(x) in needed for x in node.outputs):
            needed.update(id(x) for x in node.input_tensors)
            found.insert(0, node)
    return found
