"""The numbers of docs/architecture.md: how large files and functions are, and what depends on what.

    python tools/measure_structure.py [CHECKOUT ...]

One column per checkout (default: this one); `git worktree add /tmp/before REVISION` makes one of an older state. A room is a
file, or a folder seen from outside; an arrow is an import from one room to another inside the same folder.
"""

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

PACKAGES = ("keras_cnn", "pipelines")
FOLDERS = ("keras_cnn", "keras_cnn/analysis", "pipelines", "pipelines/training")
MANY_PARAMETERS = 7
# Attributes that Keras does not promise: a name with one leading underscore of something that is not `self` or `cls`.
OWN = {"self", "cls"}


def sources(root: Path) -> list[Path]:
    return [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]


def functions(root: Path):
    """(name, lines without its docstring, number of parameters) of each function."""
    for path in sources(root):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = node.body
                first = body[0]
                documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
                documentation = first.end_lineno - first.lineno + 1 if documented else 0
                parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                count = len([each for each in parameters if each.arg not in OWN])
                yield f"{path.stem}.{node.name}", node.end_lineno - node.lineno + 1 - documentation, count


def rooms(root: Path, folder: str) -> dict[str, set[str]]:
    """The rooms of a folder, each with those that it imports."""
    base, package = root / folder, folder.replace("/", ".")
    names = {path.stem for path in base.glob("*.py") if path.stem != "__init__"}
    names |= {path.parent.name for path in base.glob("*/__init__.py")}
    found = {name: set() for name in names}
    for path in sorted(base.rglob("*.py")):
        room = path.relative_to(base).with_suffix("").parts[0]
        if room in found:
            found[room] |= {name for name in imported_rooms(path, package) if name in names and name != room}
    return found


def imported_rooms(path: Path, package: str):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # What only type checkers import is no arrow.
    checking = (node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    hints = {id(inner) for node in checking for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in hints:
            continue
        dotted = []
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            dotted = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name[len(package) + 1 :].split(".")[0] for name in dotted if name.startswith(f"{package}."))


def circles(graph: dict[str, set[str]]) -> int:
    """Groups of rooms that import each other, however indirectly."""

    def reach(start):
        seen, left = set(), list(graph[start])
        while left:
            room = left.pop()
            if room not in seen:
                seen.add(room)
                left += graph[room]
        return seen

    reached = {room: reach(room) for room in graph}
    return len({frozenset(b for b in graph if b in reached[a] and a in reached[b]) for a in graph if a in reached[a]})


def private_names(root: Path) -> tuple[set[str], set[str]]:
    """Private attributes of Keras that the code names, and the files that do."""
    listed = root / "keras_cnn" / "keras_internals.py"
    names = {
        *("_flatten_layers", "_keras_history", "_trainable_variables", "_inbound_nodes", "_outbound_nodes"),
        *("_nodes_by_depth", "_nodes", "_learning_rate", "_call_context_args", "_model_variables_moving_average"),
        *("_initial_epoch", "_functional", "_outputs_struct", "_keras_mask", "_compile_config", "_symbolic_build"),
        *("_get_variable_index", "_use_weight_decay", "_assert_input_compatibility", "_call_has_training_arg"),
        *("_exclude_from_weight_decay", "_apply_weight_decay"),
    }
    pattern = re.compile(r"\b(?!self\.|cls\.)\w[\w\])]*\.(_[a-z]\w*)|getattr\([^)]*\"(_[a-z]\w*)\"")
    found, files = set(), set()
    for path in sources(root):
        for groups in pattern.findall(path.read_text(encoding="utf-8")):
            name = groups[0] or groups[1]
            if name in names:
                found.add(name)
                if path != listed:
                    files.add(str(path.relative_to(root)))
    return found, files


def typed(root: Path) -> str:
    """Public functions of the sources with complete type hints, of all."""
    complete = count = 0
    for path in sources(root):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        owners = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_")]
        for owner in owners:
            for node in owner.body:
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                    parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                    hints = [each.annotation for each in parameters if each.arg not in OWN]
                    count += 1
                    complete += all(hint is not None for hint in [*hints, node.returns])
    return f"{complete} of {count}"


def measures(root: Path) -> dict[str, str]:
    """Name -> figure."""
    found = list(functions(root))
    lengths = [lines for _, lines, _ in found]
    longest = max(found, key=lambda each: each[1])
    many = [name for name, _, parameters in found if parameters > MANY_PARAMETERS]
    names, files = private_names(root)
    figures = {}
    for folder in FOLDERS:
        graph = rooms(root, folder) if (root / folder / "__init__.py").is_file() else {}
        arrows = sum(map(len, graph.values()))
        figures[f"`{folder}/`: rooms, arrows, circles"] = f"{len(graph)}, {arrows}, {circles(graph)}" if graph else "-"
    return {
        **figures,
        "files, lines": f"{len(sources(root))}, {sum(len(p.read_text('utf-8').splitlines()) for p in sources(root)):,}",
        "functions": f"{len(found):,}",
        "lines of a function: median, p90": f"{statistics.median(lengths):g}, {statistics.quantiles(lengths, n=10)[-1]:g}",
        "longest function": f"{longest[1]} (`{longest[0]}`)",
        f"functions with more than {MANY_PARAMETERS} parameters": str(len(many)),
        "private names of Keras, and files other than `keras_internals.py`": f"{len(names)}, {len(files)}",
        "public functions with complete type hints": typed(root),
    }


def main():
    roots = [Path(each).resolve() for each in sys.argv[1:]] or [Path(__file__).parents[1]]
    columns = [measures(root) for root in roots]
    names = [
        subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
        for root in roots
    ]
    print(f"| | {' | '.join(names)} |\n|---|{'---:|' * len(roots)}")
    for name in columns[0]:
        print(f"| {name} | {' | '.join(column[name] for column in columns)} |")


if __name__ == "__main__":
    main()
